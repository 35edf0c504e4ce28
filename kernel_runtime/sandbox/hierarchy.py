"""Where this host lets us make control groups.

A host has version 1 (a tree for each controller), version 2 (one tree), both, or none that we
may write to; ``detect`` finds out by making a group. A group is made below this process's own,
so that limits already set on us hold for guests, too. In version 2 a group with processes in it
cannot hold limited groups; then the nearest ancestor is taken that is prepared for it, unless a
limit lies in between which the guest would escape by that.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.sandbox import cgroup_files
from kernel_runtime.sandbox.names import unique_name

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Controllers in use; ``kill`` is no controller but a version 2 group with ``cgroup.kill``.
CONTROLLERS = ("memory", "pids", "cpu", "cpuacct")


class Home(msgspec.Struct, frozen=True):
    """Where groups of one controller are made, and which version's files lie there."""

    directory: Path
    version: int


class World(msgspec.Struct, frozen=True):
    """What this host offers: controller → home; empty when nothing is writable."""

    homes: dict[str, Home]

    @property
    def kind(self) -> str:
        """``v1``, ``v2``, ``hybrid`` or ``none``."""
        versions = {home.version for home in self.homes.values()}
        return {(): "none", (1,): "v1", (2,): "v2"}.get(tuple(sorted(versions)), "hybrid")

    @property
    def limits(self) -> frozenset[str]:
        """The amounts that can be limited here: of ``memory``, ``pids``, ``cpu``."""
        return frozenset(self.homes) & {"memory", "pids", "cpu"}

    @property
    def counts_cpu(self) -> bool:
        """Whether CPU seconds are counted: by a controller in version 1, in each group of version 2."""
        return "cpuacct" in self.homes or any(home.version == 2 for home in self.homes.values())


class Mount(msgspec.Struct, frozen=True):
    """A mounted cgroup tree: its point, the group shown there, its version and controllers."""

    point: Path
    root: str
    version: int
    controllers: tuple[str, ...] = ()


def read_mounts(proc: Path) -> Iterator[Mount]:
    """The cgroup mounts in ``proc/mountinfo``."""
    for line in (proc / "mountinfo").read_text().splitlines():
        place, _, kind = line.partition(" - ")
        root, point = place.split()[3:5]
        fstype, _, options = kind.split()[:3]
        if fstype == "cgroup2":
            yield Mount(Path(point), root, 2)
        elif fstype == "cgroup":
            controllers = [name for name in options.split(",") if name in CONTROLLERS]
            if controllers:
                yield Mount(Path(point), root, 1, tuple(controllers))


def read_memberships(proc: Path) -> dict[str, str]:
    """Controller → own group's path from ``proc/cgroup``; version 2's under ``""``."""
    paths = {}
    for line in (proc / "cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        paths.update(dict.fromkeys(names.split(","), path))
    return paths


def own_directory(mount: Mount, path: str) -> Path | None:
    """Where the group ``path`` appears below the mount; None when it lies outside of it."""
    try:
        inside = Path(path).relative_to(mount.root)
    except ValueError:
        return None
    directory = mount.point / inside
    return directory if ".." not in inside.parts and directory.is_dir() else None


def detect(proc: Path = Path("/proc/self")) -> World:
    """What can be used here, tried by making a group in each place."""
    homes: dict[str, Home] = {}
    try:
        mounts, paths = list(read_mounts(proc)), read_memberships(proc)
    except OSError:
        return World(homes)
    for mount in sorted(mounts, key=lambda m: m.version):
        own = paths.get(mount.controllers[0] if mount.controllers else "")
        directory = own_directory(mount, own) if own else None
        if directory is None:
            continue
        found = _homes_v1(mount, directory) if mount.version == 1 else _homes_v2(mount.point, directory)
        homes = found | homes
    return World(_worth_joining(homes))


def _worth_joining(homes: dict[str, Home]) -> dict[str, Home]:
    """Without a version 2 group that offers nothing but a kill: entering it costs each guest
    more than 10 ms (a lock of the whole kernel), and the end of its pid namespace kills as well.
    """
    by_version_2 = {name for name, home in homes.items() if home.version == 2}
    if by_version_2 == {"kill"} != homes.keys():
        return {name: home for name, home in homes.items() if home.version == 1}
    return homes


def _homes_v1(mount: Mount, directory: Path) -> dict[str, Home]:
    if _try_group(directory) is None:
        return {}
    return {name: Home(directory, 1) for name in mount.controllers}


def _homes_v2(top: Path, own: Path) -> dict[str, Home]:
    """The nearest group whose children can be limited; failing that, what our own group offers."""
    tests = {"memory": "memory.max", "pids": "pids.max", "cpu": "cpu.max", "kill": "cgroup.kill"}
    _enable(own)
    found: dict[str, Home] = {}
    for directory in _upward(own, top):
        files = _try_group(directory) or frozenset()
        homes = {name: Home(directory, 2) for name, file in tests.items() if file in files}
        if "memory" in homes:
            return homes
        found = found or homes
    return found


def _upward(own: Path, top: Path) -> Iterator[Path]:
    """Own group, then its ancestors; ends where memory is limited and where nothing is to gain."""
    directory = own
    yield directory
    offered = "memory" in cgroup_files.read(top / "cgroup.controllers").split()
    while offered and directory != top and not _limited(directory):
        directory = directory.parent
        yield directory


def _limited(directory: Path) -> bool:
    return any(
        cgroup_files.read(directory / name) not in ("", "max") for name in ("memory.max", "memory.high")
    )


def _enable(own: Path) -> None:
    """Hand our controllers on to children; only in our own group, others' are not ours to change."""
    for name in {*cgroup_files.read(own / "cgroup.controllers").split()} & {*CONTROLLERS}:
        with contextlib.suppress(OSError):
            cgroup_files.write(own / "cgroup.subtree_control", f"+{name}")


def _try_group(directory: Path) -> frozenset[str] | None:
    """The files of a group made here for a moment; None when it cannot be made."""
    trial = directory / unique_name()
    try:
        cgroup_files.make(trial)
        files = frozenset(file.name for file in trial.iterdir())
        cgroup_files.drop(trial)
    except OSError:
        return None
    return files

"""Control groups: the true measure of a guest's memory, processes and CPU time.

Host side only. A host has version 1 (a tree for each controller), version 2 (one tree), both,
or none that we may write to; ``detect`` finds out by making a group. A group is made below
this process's own, so that limits already set on us hold for guests, too. In version 2 a group
with processes in it cannot hold limited groups; then the nearest ancestor is taken that is
prepared for it, unless a limit lies in between which the guest would escape by that.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.errors import WallUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.domain.limits import Limits

#: Controllers in use; ``kill`` is no controller but a version 2 group with ``cgroup.kill``.
CONTROLLERS = ("memory", "pids", "cpu", "cpuacct")
CPU_PERIOD = 100_000
_SOCKET_BUFFERS = 64 * MIB
PREFIX = "kernel-runtime"
_counter = itertools.count()


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


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a group used: bytes, CPU seconds, counts; 0 where the host does not count it."""

    memory: int
    peak: int
    cpu: float
    pids: int
    oom_kills: int
    pids_denied: int


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
    offered = "memory" in _read(top / "cgroup.controllers").split()
    while offered and directory != top and not _limited(directory):
        directory = directory.parent
        yield directory


def _limited(directory: Path) -> bool:
    return any(_read(directory / name) not in ("", "max") for name in ("memory.max", "memory.high"))


def _enable(own: Path) -> None:
    """Hand our controllers on to children; only in our own group, others' are not ours to change."""
    for name in {*_read(own / "cgroup.controllers").split()} & {*CONTROLLERS}:
        with contextlib.suppress(OSError):
            _write(own / "cgroup.subtree_control", f"+{name}")


def _try_group(directory: Path) -> frozenset[str] | None:
    """The files of a group made here for a moment; None when it cannot be made."""
    trial = directory / unique_name()
    try:
        _make(trial)
        files = frozenset(file.name for file in trial.iterdir())
        _drop(trial)
    except OSError:
        return None
    return files


class Group:
    """One guest's control group (in version 1 a directory in each tree)."""

    def __init__(self, name: str, homes: dict[str, Home]) -> None:
        self.name = name
        self._places = {
            controller: Home(home.directory / name, home.version) for controller, home in homes.items()
        }

    @property
    def directories(self) -> list[Path]:
        """Each directory once: controllers mounted together share theirs."""
        return list(dict.fromkeys(place.directory for place in self._places.values()))

    def procs_fds(self) -> list[int]:
        """Descriptors for the guest-to-be, which enters by writing ``b"0"`` to each.

        The kernel judges the writer by who opened them; close them afterwards. In version 1 the
        writer enters as a thread, its only one: that takes 0.03 ms, as a process 10 ms.
        """
        places = {place.directory: place.version for place in self._places.values()}
        names = {1: "tasks", 2: "cgroup.procs"}
        return [os.open(d / names[v], os.O_WRONLY | os.O_CLOEXEC) for d, v in places.items()]

    def limit(self, limits: Limits, cpus: float | None = None) -> None:
        """Set the memory, process and CPU limits (``cpus``: cores' worth of time)."""
        if limits.memory is not None:
            self._limit_memory(limits.memory)
        if limits.pids is not None and (place := self._places.get("pids")):
            _write(place.directory / "pids.max", str(limits.pids))
        if cpus is not None and (place := self._places.get("cpu")):
            _limit_cpu(place, int(cpus * CPU_PERIOD))

    def _limit_memory(self, amount: int) -> None:
        place = self._places.get("memory")
        if place is None:
            return
        if place.version == 2:
            _write(place.directory / "memory.max", str(amount))
            # Not memory.oom.group: pid 1 must survive its live branch.
            extras = {"memory.swap.max": "0"}
        else:
            _write(place.directory / "memory.limit_in_bytes", str(amount))
            # Version 1 counts the buffers of sockets apart, and only once they are limited.
            buffers = str(min(amount, _SOCKET_BUFFERS))
            extras = {"memory.memsw.limit_in_bytes": str(amount), "memory.kmem.tcp.limit_in_bytes": buffers}
        for name, text in extras.items():
            # Kernels without swap accounting lack the file, and then there is nothing to limit.
            with contextlib.suppress(FileNotFoundError):
                _write(place.directory / name, text)

    def usage(self) -> Usage:
        """What the group uses and used up to now."""
        memory, peak, oom_kills = self._memory()
        pids = self._places.get("pids")
        return Usage(
            memory=memory,
            peak=peak,
            cpu=self._cpu(),
            pids=_number(pids.directory / "pids.current") if pids else 0,
            oom_kills=oom_kills,
            pids_denied=_field(pids.directory / "pids.events", "max") if pids else 0,
        )

    def _memory(self) -> tuple[int, int, int]:
        place = self._places.get("memory")
        if place is None:
            return 0, 0, 0
        at = place.directory
        if place.version == 1:
            now, peak = _number(at / "memory.usage_in_bytes"), _number(at / "memory.max_usage_in_bytes")
            return now, peak, _field(at / "memory.oom_control", "oom_kill")
        now = _number(at / "memory.current")
        return now, _number(at / "memory.peak") or now, _field(at / "memory.events", "oom_kill")

    def _cpu(self) -> float:
        accounting = self._places.get("cpuacct")
        if accounting:
            return _number(accounting.directory / "cpuacct.usage") / 1e9
        unified = self._places.get("kill") or self._places.get("cpu")
        return _field(unified.directory / "cpu.stat", "usage_usec") / 1e6 if unified else 0.0

    def kill(self) -> None:
        """End every process in the group, at once where the kernel can (``cgroup.kill``)."""
        place = self._places.get("kill")
        if place:
            with contextlib.suppress(FileNotFoundError):
                _write(place.directory / "cgroup.kill", "1")
        for _ in range(100):
            if not (pids := self.pids()):
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)

    def pids(self) -> list[int]:
        """The processes in the group that this process can see."""
        lists = (_read(directory / "cgroup.procs").split() for directory in self.directories)
        return sorted({int(pid) for pids in lists for pid in pids} - {0})

    def remove(self, patience: float = 1.0) -> bool:
        """Remove the empty group; while processes are still leaving, try for ``patience`` seconds."""
        deadline = time.monotonic() + patience
        while left := [d for d in self.directories if not _removed(d)]:
            if time.monotonic() >= deadline:
                return not left
            time.sleep(0.002)
        return True


def create(world: World, limits: Limits, *, cpus: float | None = None, name: str = "") -> Group | None:
    """A new group with its limits set; None when this host has no writable control groups."""
    if not world.homes:
        return None
    group = Group(name or unique_name(), world.homes)
    try:
        for directory in group.directories:
            _make(directory)
        group.limit(limits, cpus)
    except OSError as error:
        group.remove(patience=0)
        fix = "Let this user write to its control group (systemd: Delegate=yes)"
        raise WallUnavailable("cgroup", str(error), fix) from error
    return group


def unique_name() -> str:
    """``kernel-runtime-<pid namespace>-<pid>-<start time>-<counter>``: names its maker exactly."""
    return f"{PREFIX}-{_namespace()}-{os.getpid()}-{_start_time(os.getpid())}-{next(_counter)}"


def sweep(world: World) -> list[str]:
    """End and remove the groups of fronts of this pid namespace that are no more; their names."""
    names = {entry.name for home in world.homes.values() for entry in home.directory.glob(f"{PREFIX}-*")}
    swept = [name for name in names if _orphaned(name)]
    for name in swept:
        group = Group(name, world.homes)
        with contextlib.suppress(OSError):  # another front may be sweeping it at this moment
            group.kill()
            group.remove()
    return sorted(swept)


def _orphaned(name: str) -> bool:
    """Whether the maker of this group lived in our pid namespace and has ended."""
    try:
        namespace, pid, started, _ = (int(part) for part in name.removeprefix(f"{PREFIX}-").split("-"))
    except ValueError:
        return False
    return namespace == _namespace() and _start_time(pid) != started


def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _start_time(pid: int) -> int:
    """In clock ticks since boot; 0 when there is no such process."""
    stat = _read(Path(f"/proc/{pid}/stat"))
    return int(stat.rpartition(")")[2].split()[19]) if stat else 0


def _limit_cpu(place: Home, quota: int) -> None:
    if place.version == 2:
        _write(place.directory / "cpu.max", f"{quota} {CPU_PERIOD}")
    else:
        _write(place.directory / "cpu.cfs_period_us", str(CPU_PERIOD))
        _write(place.directory / "cpu.cfs_quota_us", str(quota))


def _make(directory: Path) -> None:
    directory.mkdir()


def _drop(directory: Path) -> None:
    directory.rmdir()


def _removed(directory: Path) -> bool:
    try:
        _drop(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _write(path: Path, text: str) -> None:
    """Without creating: a control file that is not there must be an error."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    return int(_read(path) or 0)


def _field(path: Path, name: str) -> int:
    """The number after ``name`` in a file of ``name number`` lines; 0 when it is not there."""
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0

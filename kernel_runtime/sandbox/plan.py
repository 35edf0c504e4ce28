"""Decide the walls: level, limits and image in, exact plans out. Pure: no I/O here.

A plan is data. The host makes it, the zygote and the guest's first process carry it out
(``stage``, ``enter``); what cannot be carried out ends the start of the guest, unless the
level is permissive, where the missing wall is named instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.level import Level, Rung
from kernel_runtime.sandbox import seccomp
from kernel_runtime.sandbox.landlock import Ruleset
from kernel_runtime.sandbox.rungs import ABSENT, SOLE_FEATURES, WALLS

if TYPE_CHECKING:
    from kernel_runtime.domain.limits import Limits

__all__ = [
    "WALLS",
    "Bind",
    "Cover",
    "Ground",
    "GuestPlan",
    "Ids",
    "ImagePlan",
    "covers",
    "layer",
    "plan_guest",
]

#: Where the proxy listens in a guest's own network, which nobody shares with it.
EGRESS = ("127.0.0.1", 3128)
GUEST_TMP = "/tmp"  # noqa: S108 — a place inside the guest, its own
#: Public files of the host that libraries read, where the guest has no /proc, /sys and /dev of its own.
_PUBLIC = (
    *(
        f"/proc/{name}"
        for name in ("cpuinfo", "meminfo", "stat", "loadavg", "uptime", "version", "filesystems")
    ),
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/etc/os-release",
    "/etc/nsswitch.conf",
)
_DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom"))
#: Other processes of the same user count for RLIMIT_NPROC, and some will be started meanwhile.
_CROWD_GROWTH = 256


class Ids(msgspec.Struct, frozen=True, kw_only=True):
    """Who the guest is: ``uid``/``gid`` as seen inside, ``host_uid``/``host_gid`` outside.

    ``remapped``: the front is root, and guests get another host uid, which owns nothing.
    """

    uid: int
    gid: int
    host_uid: int
    host_gid: int
    remapped: bool


class Bind(msgspec.Struct, frozen=True, kw_only=True):
    """A host path that appears read-only at the same place inside."""

    path: str
    directory: bool = True


class ImagePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a zygote stages once: the files of the interpreter environment, the ids, the preload.

    ``links`` (target by name) and ``files`` (text by path) are made in the private root;
    ``workdir`` is the host directory its guests may see (None: none). On the rung ``landlock``
    nothing is staged; ``cache`` is a directory of the zygote's own for what libraries write when imported.
    """

    ids: Ids
    binds: list[Bind]
    links: dict[str, str]
    files: dict[str, str]
    home: str
    workdir: str | None
    preload: list[str]
    parent: int
    cache: str = ""
    rung: Rung = Rung.NAMESPACES


class Cover(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the guest's root that gets its own file system over the image's.

    ``kind``: ``scratch`` (empty, writable), ``overlay`` (the directory, writes in memory),
    ``devices`` or ``proc``. ``nested``: paths of the image below it, shown again on top.
    """

    path: str
    kind: str
    nested: list[str]


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What a guest without namespaces stands on. ``scratch``: its own directory on the host;
    ``crowd``: processes and threads of its user now (None: a control group counts its own).
    """

    scratch: str
    crowd: int | None = None


class GuestPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one guest enters: the walls by name and their amounts.

    ``required`` False (permissive): a wall that fails is named, not fatal. ``absent``: walls that
    its rung does not have, with what stands in for them. ``egress``: a socket listens in its network, for
    the host to serve. ``paths`` are what Landlock leaves open,
    ``features`` what it must be able to hold. ``scratch``: the guest's directory on the host, if
    it has no root of its own. ``calls``: names of what ``program`` may deny.
    """

    rung: Rung
    walls: list[str]
    required: bool
    absent: dict[str, str]
    paths: Ruleset
    features: tuple[str, ...]
    scratch: str
    ids: Ids
    hostname: str
    covers: list[Cover]
    disk: int
    inodes: int
    rlimits: dict[str, tuple[int, int]]
    program: bytes
    calls: dict[int, str]
    egress: bool = False


def plan_guest(
    image: ImagePlan,
    level: Level,
    limits: Limits,
    *,
    arch: str,
    without: frozenset[str] = frozenset(),
    ground: Ground | None = None,
    egress: bool = False,
    copies: int = 0,
) -> GuestPlan:
    """The plan of one guest, on the rung that its image was described for.

    ``ground`` is needed on the rung ``landlock``. ``without`` removes walls by name (for tests'
    positive controls). ``copies``: processes for which there is to be room beside the guest's own.
    """
    spaces = image.rung is Rung.NAMESPACES
    if not spaces and ground is None:
        raise ValueError("a guest without namespaces needs a ground")
    absent = {} if spaces else {w: why for w, why in ABSENT.items() if w != "user" or not image.ids.remapped}
    walls = [wall for wall in WALLS if wall not in without and wall not in absent]
    workdir = None if level is Level.STRICT else image.workdir
    covered = covers(image, workdir) if spaces else []
    refused = {
        "subprocess": level is not Level.STRICT,
        "shared": not spaces,
        "owner": not image.ids.remapped,
    }
    return GuestPlan(
        rung=image.rung,
        walls=walls,
        required=level is not Level.PERMISSIVE,
        absent=absent,
        paths=_open_paths(image, workdir, covered, walls, ground),
        features=("files",) if spaces else SOLE_FEATURES,
        scratch=ground.scratch if ground is not None and not spaces else "",
        ids=image.ids,
        hostname="guest",
        covers=covered,
        disk=layer(limits),
        inodes=limits.inodes,
        rlimits=_rlimits(limits, None if spaces else ground, copies),
        program=seccomp.compile_program(arch, **refused),
        calls=seccomp.denied_names(arch, **refused),
        egress=egress and "net" in walls,
    )


def _open_paths(
    image: ImagePlan, workdir: str | None, covered: list[Cover], walls: list[str], ground: Ground | None
) -> Ruleset:
    """What Landlock leaves open: with a root of its own nearly everything in it, else the image."""
    if image.rung is Rung.NAMESPACES:
        writable = [cover.path for cover in covered] if "mount" in walls else ["/"]
        return Ruleset(read_exec=("/",), read_write=tuple(writable))
    scratch = ground.scratch if ground is not None else ""
    readable = (*(bind.path for bind in image.binds), *_PUBLIC)
    directory = () if workdir is None else (workdir,)
    return Ruleset(read_exec=readable, wanted=directory, read_write=(*_DEVICES, scratch), tcp=False)


def layer(limits: Limits) -> int:
    """Bytes of the writable layer. It counts as memory and outlives a branch: at most half of the
    memory, or a guest could fill it so far that no branch after it has the room to start.
    """
    return limits.disk if limits.memory is None else min(limits.disk, limits.memory // 2)


def file_size(limits: Limits) -> int:
    """Bytes that one file may have."""
    return limits.disk if limits.file_size is None else min(limits.disk, limits.file_size)


def covers(image: ImagePlan, workdir: str | None) -> list[Cover]:
    """What is mounted over the image in a guest's root, parents first."""
    kinds = {GUEST_TMP: "scratch", image.home: "scratch", "/dev": "devices", "/proc": "proc"}
    if workdir is not None:
        kinds[workdir] = "overlay"
    return [
        Cover(
            path=path, kind=kinds[path], nested=[b.path for b in image.binds if b.path.startswith(path + "/")]
        )
        for path in sorted(kinds, key=lambda p: p.count("/"))
    ]


def _rlimits(limits: Limits, ground: Ground | None, copies: int) -> dict[str, tuple[int, int]]:
    """The second line behind the cgroup; memory (RLIMIT_DATA) is set in the live branch,
    which knows what it already holds."""
    amounts = {
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_NOFILE": (limits.open_files, limits.open_files),
        "RLIMIT_FSIZE": (file_size(limits), file_size(limits)),
        "RLIMIT_MSGQUEUE": (0, 0),
        "RLIMIT_SIGPENDING": (4096, 4096),
        "RLIMIT_RTPRIO": (0, 0),
        "RLIMIT_NICE": (0, 0),
    }
    if limits.pids is not None and (ground is None or ground.crowd is not None):
        # pid 1 counts, too, and must always be able to fork the next live branch. Without a user
        # namespace all of the user's processes count: then it only slows a fork bomb down.
        others = 0 if ground is None or ground.crowd is None else ground.crowd + _CROWD_GROWTH
        amounts["RLIMIT_NPROC"] = (limits.pids + 2 + copies + others,) * 2
    return amounts

"""Decide the walls: level, limits and image in, exact plans out. Pure: no I/O here.

A plan is data. The host makes it, the zygote and the guest's first process carry it out
(``stage``, ``enter``); what cannot be carried out ends the start of the guest, unless the
level is permissive, where the missing wall is named instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.amounts import KIB
from kernel_runtime.domain.level import Level
from kernel_runtime.sandbox import seccomp

if TYPE_CHECKING:
    from kernel_runtime.domain.limits import Limits

GUEST_TMP = "/tmp"  # noqa: S108 — a place inside the guest, its own
#: The walls in the order in which a guest enters them.
WALLS = (
    "cgroup",
    "net",
    "ipc",
    "uts",
    "mount",
    "user",
    "rlimits",
    "landlock",
    "capabilities",
    "seccomp",
)


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
    ``workdir`` is the host directory its guests may see (None: none).
    """

    ids: Ids
    binds: list[Bind]
    links: dict[str, str]
    files: dict[str, str]
    home: str
    workdir: str | None
    preload: list[str]
    parent: int


class Cover(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the guest's root that gets its own file system over the image's.

    ``kind``: ``scratch`` (empty, writable), ``overlay`` (the directory, writes in memory),
    ``devices`` or ``proc``. ``nested``: paths of the image below it, shown again on top.
    """

    path: str
    kind: str
    nested: list[str]


class GuestPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one guest enters: the walls by name and their amounts.

    ``required`` False (permissive): a wall that fails is named, not fatal.
    """

    walls: list[str]
    required: bool
    ids: Ids
    hostname: str
    covers: list[Cover]
    disk: int
    inodes: int
    rlimits: dict[str, tuple[int, int]]
    program: bytes


def plan_guest(
    image: ImagePlan,
    level: Level,
    limits: Limits,
    *,
    arch: str,
    without: frozenset[str] = frozenset(),
) -> GuestPlan:
    """The plan of one guest; ``without`` removes walls by name (for tests' positive controls)."""
    strict = level is Level.STRICT
    workdir = None if strict else image.workdir
    return GuestPlan(
        walls=[wall for wall in WALLS if wall not in without],
        required=level is not Level.PERMISSIVE,
        ids=image.ids,
        hostname="guest",
        covers=covers(image, workdir),
        disk=layer(limits),
        inodes=max(1024, layer(limits) // (8 * KIB)),
        rlimits=_rlimits(limits),
        program=seccomp.compile_program(arch, subprocess=not strict),
    )


def layer(limits: Limits) -> int:
    """Bytes of the writable layer. It counts as memory and outlives a branch: at most half of the
    memory, or a guest could fill it so far that no branch after it has the room to start.
    """
    return limits.disk if limits.memory is None else min(limits.disk, limits.memory // 2)


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


def _rlimits(limits: Limits) -> dict[str, tuple[int, int]]:
    """The second line behind the cgroup; memory (RLIMIT_DATA) is set in the live branch,
    which knows what it already holds."""
    amounts = {
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_NOFILE": (1024, 4096),
        "RLIMIT_FSIZE": (limits.disk, limits.disk),
        "RLIMIT_MSGQUEUE": (0, 0),
        "RLIMIT_SIGPENDING": (4096, 4096),
        "RLIMIT_RTPRIO": (0, 0),
        "RLIMIT_NICE": (0, 0),
    }
    if limits.pids is not None:
        # pid 1 counts, too, and must always be able to fork the next live branch.
        amounts["RLIMIT_NPROC"] = (limits.pids + 2, limits.pids + 2)
    return amounts

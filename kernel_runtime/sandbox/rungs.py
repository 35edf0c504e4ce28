"""The ladder: which walls a host can build, and which rung of them a level may stand on. Pure.

``namespaces`` is the whole house. Where user namespaces are refused, ``landlock`` is left: files
behind Landlock, a narrower system-call filter in place of the missing namespaces, resource limits.
``strict`` and ``moderate`` stand on the first unless a person has accepted the second by name;
``permissive`` takes the strongest there is. Below the second rung nothing starts.
"""

from __future__ import annotations

import msgspec

from kernel_runtime.domain.errors import WallUnavailable
from kernel_runtime.domain.level import Level, Rung

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
#: The walls that the zygote stands behind, before any guest is forked.
FOUNDATIONS = ("zygote", "pid")
#: What each rung consists of. The control group is not demanded: rlimits and a watch stand in for it.
REQUIRED = {
    Rung.NAMESPACES: (*FOUNDATIONS, *(wall for wall in WALLS if wall != "cgroup")),
    Rung.LANDLOCK: ("rlimits", "landlock", "capabilities", "seccomp"),
}
#: What a Landlock must be able to do when it is the only wall around files and signals.
SOLE_FEATURES = ("files", "refer", "truncate", "abstract_unix", "signal")

NO_GROUPS = "no writable control groups: resource limits and a watch from outside hold the amounts"
#: What the second rung lacks, and what stands in for it.
ABSENT = {
    "pid": "processes of the host cannot be signalled or traced, but their numbers are the host's",
    "net": "no namespace of its own: every socket but a stream pair is refused by the system-call filter",
    "ipc": "no namespace of its own: System V objects are refused by the system-call filter",
    "uts": "the host's name is visible",
    "mount": "no root of its own: Landlock leaves the environment and the directory readable, and one "
    "scratch directory writable; that other files exist can be seen",
    "user": "the guest's processes belong to your own user",
}

#: What to change on the host when a wall cannot be built.
FIXES = {
    "zygote": "Allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "user.max_user_namespaces > 0; on Ubuntu 24.04+ an AppArmor profile; in Docker a seccomp profile that "
    "lets unshare pass). `kernel-runtime doctor` tries each wall and names the fix",
    "user": "Allow unprivileged user namespaces for this interpreter (kernel-runtime doctor shows how)",
    "mount": "The container must allow mounts in a user namespace (kernel-runtime doctor shows how)",
    "landlock": "Linux 5.13 or newer with Landlock enabled (lsm=…,landlock) is needed; 6.12 where it stands "
    "alone, on the rung landlock",
    "seccomp": "A kernel with CONFIG_SECCOMP_FILTER is needed",
}
#: For the walls without a fix of their own.
FIX_ANY = "`kernel-runtime doctor` tries each wall on this host and says what to change"
ACCEPT = "Or accept walls without namespaces: --rung landlock, or KERNEL_RUNTIME_RUNG=landlock"


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What this host offers, found out by doing.

    ``missing``: for each rung, wall → why it could not be built. ``abi``: the Landlock version.
    ``cgroups``: ``v1``, ``v2 root``, ``v2 delegated``, ``hybrid`` or ``none``; ``held``: the
    amounts that the kernel limits there (of memory, pids, cpu).
    """

    missing: dict[Rung, dict[str, str]]
    abi: int = 0
    cgroups: str = "none"
    held: tuple[str, ...] = ()

    def trouble(self, rung: Rung) -> dict[str, str]:
        """Required wall of ``rung`` → why this host cannot build it; empty: the rung holds."""
        missing = self.missing.get(rung, {"zygote": "it was not tried"})
        return {
            wall: reason for wall, reason in missing.items() if wall in (*REQUIRED[rung], "zygote", "user")
        }

    @property
    def strongest(self) -> Rung | None:
        """The first rung of which every wall can be built; None: no level but permissive starts."""
        return next((rung for rung in Rung if not self.trouble(rung)), None)


def choose_rung(level: Level, host: Host, accepted: Rung | None = None) -> Rung:
    """The strongest rung of this host that ``level`` may stand on.

    ``accepted``: the weakest rung that a person has agreed to. Raises ``WallUnavailable`` with
    the wall, the reason and the fix when none is left.
    """
    if (strongest := host.strongest) is Rung.NAMESPACES:
        return strongest
    if level is Level.PERMISSIVE:
        if strongest is not None:
            return strongest
        for rung in Rung:  # not whole: the missing walls are named in the session
            if _stands_at_all(rung, host):
                return rung
    elif accepted is Rung.LANDLOCK:
        if strongest is not None:
            return strongest
        raise refusal(host, Rung.LANDLOCK)
    raise refusal(host, Rung.NAMESPACES)


def _stands_at_all(rung: Rung, host: Host) -> bool:
    """Whether a permissive guest may stand on it: its files must be behind some wall, and its calls."""
    trouble = host.trouble(rung)
    if rung is Rung.NAMESPACES:
        return not {"zygote", "pid", "mount", "seccomp"} & trouble.keys()
    return host.abi > 0 and not {"zygote", "seccomp"} & trouble.keys()


def refusal(host: Host, rung: Rung) -> WallUnavailable:
    """Why ``rung`` cannot be stood on, with the fix."""
    wall, reason = next(iter(host.trouble(rung).items()), ("zygote", "it was refused"))
    second = rung is Rung.NAMESPACES and not host.trouble(Rung.LANDLOCK)
    return WallUnavailable(wall, reason, advice(wall, landlock=second))


def advice(wall: str, *, landlock: bool) -> str:
    """What to do about a missing wall; ``landlock``: the second rung could be accepted instead."""
    fix = FIXES.get(wall, FIX_ANY)
    return f"{fix}. {ACCEPT}" if landlock else fix

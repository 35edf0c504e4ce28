"""What one guest's first process does, once and in order: enter the walls of its plan.

Runs in the process that the zygote has just forked (already pid 1 of its own pid namespace).
Anything that fails raises ``WallUnavailable`` naming the wall, and the guest is not started;
only a permissive plan goes on without it. Nothing here can be undone by what runs after it.
"""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import stat
import struct
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import WallUnavailable
from kernel_runtime.domain.level import Rung
from kernel_runtime.sandbox import landlock, seccomp
from kernel_runtime.sandbox import syscalls as sc
from kernel_runtime.sandbox.plan import EGRESS, GUEST_TMP
from kernel_runtime.sandbox.rungs import FIX_ANY, FIXES, NO_GROUPS
from kernel_runtime.sandbox.stage import DEVICES, EMPTY, IMAGE, LOWER, NOTHING, ROOT, SCRATCH

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.sandbox.plan import Cover, GuestPlan

#: Pseudo terminals come out of one number for the whole host, watchers out of one for each user
#: (often 128): a guest gets enough for its own use.
_TERMINALS = 64
_WATCHERS = {"max_inotify_instances": 8, "max_inotify_watches": 8192}
#: What the kernel tells everybody about the machine and its other users, and no guest needs. Each
#: cover costs some 30 µs; what only root may read (timer_list, sysrq-trigger, kcore) needs none where
#: the guest is not that root (``_cover_owned``).
_HIDDEN = ("cmdline", "interrupts", "key-users", "keys", "locks")
#: Namespaces, which a process can enter before it is known whose guest it will be.
AHEAD = ("net", "ipc", "uts", "mount")
_PROC_FLAGS = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC


def enter(
    plan: GuestPlan,
    cgroup_fds: list[int] | Callable[[], list[int]],
    listeners: list[int] | None = None,
    hand_over: Callable[[socket.socket], None] | None = None,
    layers: list[int] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Enter every wall of the plan: the names of those that stand now, and those that do not,
    with the reason (what the rung lacks; what failed, if the plan is permissive).

    ``cgroup_fds`` that are asked for come late: the walls that need nothing of the guest's own are
    entered before (``AHEAD``). ``listeners`` takes the filter's listener, if the kernel gives one, to be served from now on;
    without the list denied calls are answered unnamed. ``hand_over`` takes the socket that listens in
    the guest's network, if the plan has one. ``layers`` takes two descriptors where the directory has a
    layer: the layer itself, and the directory with it.
    """
    spaces = plan.rung is Rung.NAMESPACES
    settings: list[int] = []
    joined: list[int] = []
    doors: list[socket.socket] = []
    steps: dict[str, Callable[[], None]] = {
        "cgroup": lambda: _join_cgroups(joined, spaces),
        "net": lambda: doors.extend(_enter_network(plan.egress)),
        "ipc": lambda: sc.unshare(sc.CLONE_NEWIPC),
        "uts": lambda: _enter_uts(plan.hostname),
        "mount": lambda: _enter_root(plan, settings, layers),
        "rlimits": lambda: _set_rlimits(plan.rlimits),
        "user": lambda: _become_guest(plan, settings) if spaces else _become_nobody(plan),
        "landlock": lambda: _restrict_files(plan),
        "capabilities": _drop_capabilities,
        "seccomp": lambda: _filter_calls(plan.program, listeners),
    }
    os.umask(0o022)
    standing, missing = ["pid"] if spaces else [], dict(plan.absent)
    for wall in _order(plan.walls) if callable(cgroup_fds) else plan.walls:
        if wall == "cgroup":
            joined += cgroup_fds() if callable(cgroup_fds) else cgroup_fds
        if wall == "rlimits":  # with the guest's own limit, others could keep it from passing descriptors
            _hand_over(doors, hand_over)
        try:
            steps[wall]()
        except (OSError, ValueError, NotImplementedError) as error:
            if plan.required:
                raise WallUnavailable(wall, str(error), FIXES.get(wall, FIX_ANY)) from error
            missing[wall] = str(error)
        else:
            standing.append(wall)
    while layers and "mount" in missing:  # of a root that was not entered
        os.close(layers.pop())
    for fd in settings:
        os.close(fd)
    for door in doors:
        door.close()
    standing.sort(key=["pid", *plan.walls].index)
    if "cgroup" in standing and not joined:  # a view of its own, but no group
        standing.remove("cgroup")
        missing["cgroup"] = NO_GROUPS
    return standing, missing


def _order(walls: list[str]) -> list[str]:
    return sorted(walls, key=lambda wall: wall not in AHEAD)


def _join_cgroups(fds: list[int], spaces: bool) -> None:
    """The host opened ``cgroup.procs`` for us; "0" is the writer itself."""
    try:
        for fd in fds:
            os.write(fd, b"0")
    finally:
        for fd in fds:  # a permissive guest goes on without the group, but never with its files
            os.close(fd)
    if spaces:
        sc.unshare(sc.CLONE_NEWCGROUP)


def _enter_network(egress: bool) -> list[socket.socket]:
    """An empty network: no route, no device but loopback, which only this guest shares; and the socket that
    listens there for the host, if it is to serve one."""
    sc.unshare(sc.CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", _IFF_UP | _IFF_RUNNING)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, request)
    return [socket.create_server(EGRESS, backlog=_EGRESS_BACKLOG)] if egress else []


def _hand_over(doors: list[socket.socket], take: Callable[[socket.socket], None] | None) -> None:
    for door in doors:
        if take is not None:
            take(door)


_EGRESS_BACKLOG = 128
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40


def _enter_uts(hostname: str) -> None:
    sc.unshare(sc.CLONE_NEWUTS)
    sc.sethostname(hostname)


def _enter_root(plan: GuestPlan, settings: list[int], layers: list[int] | None) -> None:
    """A root of its own: the staged image, covers over it, and no way back to the old one.

    ``settings`` takes a descriptor of the guest's /proc/sys from below its cover.
    """
    sc.unshare(sc.CLONE_NEWNS)
    sc.mount(IMAGE, ROOT, None, sc.MS_BIND | sc.MS_REC)
    _mount_scratch(plan)
    for cover in plan.covers:
        _mount_cover(plan, cover, settings)
        if cover.kind == "overlay" and layers is not None:  # no path leads to the layer later
            layers += [os.open(_layer(plan, cover), os.O_PATH), os.open(ROOT + cover.path, os.O_PATH)]
    os.chdir(ROOT)
    sc.pivot_root(".", ".")
    sc.umount2(".", sc.MNT_DETACH)
    os.chdir("/")


#: What each kind of cover needs of the scratch: a layer, and for an overlay a place to work.
_LAYERS = {"scratch": ("",), "overlay": ("", ".work")}


def _mount_scratch(plan: GuestPlan) -> None:
    """One tmpfs for all that the guest writes, so that one limit holds for the sum."""
    options = f"mode=700,size={plan.disk},nr_inodes={plan.inodes}"
    sc.mount("scratch", SCRATCH, "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, options)
    os.chmod(SCRATCH, 0o711)  # noqa: S103 — to be passed through, not read
    for index, cover in enumerate(plan.covers):
        for name in _LAYERS.get(cover.kind, ()):
            os.mkdir(f"{SCRATCH}/{index}{name}", 0o755)
            os.chown(f"{SCRATCH}/{index}{name}", plan.ids.uid, plan.ids.gid)
    os.mkdir(f"{SCRATCH}/shm")
    for shared in ("shm", f"{[cover.path for cover in plan.covers].index(GUEST_TMP)}"):
        os.chmod(f"{SCRATCH}/{shared}", 0o1777)  # noqa: S103 — what programs expect of /tmp and /dev/shm


def _layer(plan: GuestPlan, cover: Cover) -> str:
    return f"{SCRATCH}/{plan.covers.index(cover)}"


def _mount_cover(plan: GuestPlan, cover: Cover, settings: list[int]) -> None:
    target = ROOT + cover.path
    layer = _layer(plan, cover)
    if not os.path.isdir(target):
        os.makedirs(target)
    if cover.kind == "scratch":
        sc.mount(layer, target, None, sc.MS_BIND)
    elif cover.kind == "overlay":
        options = f"lowerdir={LOWER},upperdir={layer},workdir={layer}.work,userxattr"
        sc.mount("overlay", target, "overlay", sc.MS_NOSUID | sc.MS_NODEV, options)
    elif cover.kind == "devices":
        _mount_devices(target)
    elif cover.kind == "proc":
        sc.mount("proc", target, "proc", _PROC_FLAGS)
        _hide(target)
        settings.append(os.open(f"{target}/sys", os.O_PATH))
        _make_read_only(f"{target}/sys")
        if _may_be_owner(plan, target):
            _cover_owned(target)
    for path in cover.nested:
        _show_again(path)


def _hide(proc: str) -> None:
    for name in _HIDDEN:
        if os.path.exists(f"{proc}/{name}"):
            sc.mount(EMPTY, f"{proc}/{name}", None, sc.MS_BIND)


def _make_read_only(path: str) -> None:
    """By the call that is warm already: mount_setattr would take six times as long at this point."""
    sc.mount(path, path, None, sc.MS_BIND)
    sc.mount(None, path, None, sc.MS_BIND | sc.MS_REMOUNT | sc.MS_RDONLY | _PROC_FLAGS)


def _may_be_owner(plan: GuestPlan, proc: str) -> bool:
    """Whether /proc belongs to the guest's user: the host's root, with no other id to change to.

    A permissive guest may have to go on as who the zygote is.
    """
    guests = {plan.ids.uid}
    if not plan.required or "user" not in plan.walls:
        guests.add(os.geteuid())
    return os.stat(proc).st_uid in guests


def _cover_owned(proc: str) -> None:
    """What /proc lets its owner do and nobody else: the kernel asks for no capability there.

    Directories (irq, bus, fs, …) become read-only, files that their owner may read or write and
    others may not (sysrq-trigger, slabinfo, kpageflags, …) empty.
    """
    for entry in os.scandir(proc):
        if entry.is_symlink() or entry.name.isdigit() or entry.name == "sys":
            continue
        mode = entry.stat().st_mode
        if stat.S_ISDIR(mode):
            _make_read_only(entry.path)
        elif mode >> 6 & 0o6 != mode & 0o6:
            sc.mount(EMPTY, entry.path, None, sc.MS_BIND)
    if os.path.isdir(f"{proc}/tty/driver"):  # the serial ports' counters
        sc.mount(NOTHING, f"{proc}/tty/driver", None, sc.MS_BIND)


def _show_again(path: str) -> None:
    """A part of the image that a cover has hidden (an environment inside the directory)."""
    source, target = IMAGE + path, ROOT + path
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
    sc.mount(source, target, None, sc.MS_BIND | sc.MS_REC)


def _mount_devices(target: str) -> None:
    sc.mount(DEVICES, target, None, sc.MS_BIND | sc.MS_REC)
    sc.mount(
        "devpts",
        f"{target}/pts",
        "devpts",
        sc.MS_NOSUID | sc.MS_NOEXEC,
        f"newinstance,ptmxmode=0666,mode=620,max={_TERMINALS}",
    )
    sc.mount(f"{SCRATCH}/shm", f"{target}/shm", None, sc.MS_BIND)


def _set_rlimits(amounts: dict[str, tuple[int, int]]) -> None:
    """After the guest's own user namespace stands: what a namespace is born with holds for the
    sum over it and its siblings, and one guest's processes would be missing in another."""
    for name, (soft, hard) in amounts.items():
        number = getattr(resource, name)
        _, ceiling = resource.getrlimit(number)
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(number, (soft, hard))


def _become_guest(plan: GuestPlan, settings: list[int]) -> None:
    """Another identity, and a user namespace that owns none of the namespaces entered above:
    even a capability regained in it would have no power over mounts, network or pids."""
    ids = plan.ids
    if ids.remapped:
        os.setresgid(ids.gid, ids.gid, ids.gid)
        os.setresuid(ids.uid, ids.uid, ids.uid)
        sc.set_dumpable(True)  # a change of ids closes /proc/self, where the map is written
    sc.unshare(sc.CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("gid_map", f"{ids.gid} {ids.gid} 1"),
        ("uid_map", f"{ids.uid} {ids.uid} 1"),
    ):
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(fd, text.encode())
        os.close(fd)
    _bound_watchers(settings)


def _bound_watchers(settings: list[int]) -> None:
    """The kernel counts file watchers over all processes of the front's user, on the host."""
    if not settings:  # no root of its own
        settings.append(os.open("/proc/sys", os.O_PATH))
    for name, amount in _WATCHERS.items():
        try:
            fd = os.open(f"user/{name}", os.O_WRONLY, dir_fd=settings[0])
        except FileNotFoundError:
            continue  # a kernel without them
        try:
            os.write(fd, str(amount).encode())
        finally:
            os.close(fd)


def _become_nobody(plan: GuestPlan) -> None:
    """Without a user namespace, where the front is root: a user of the host who owns nothing."""
    os.setgroups([])
    os.setresgid(plan.ids.host_gid, plan.ids.host_gid, plan.ids.host_gid)
    os.setresuid(plan.ids.host_uid, plan.ids.host_uid, plan.ids.host_uid)


def _restrict_files(plan: GuestPlan) -> None:
    sc.set_no_new_privs()
    try:
        enforced = landlock.restrict(plan.paths)
    except PermissionError as error:
        why = "the guest's user cannot reach it: install Python where every user may read it"
        raise OSError(f"{error.filename}: {why}") from error
    if not enforced:
        raise OSError("Landlock is not available on this kernel")
    if lacking := [feature for feature in plan.features if feature not in enforced]:
        raise OSError(f"Landlock on this kernel (ABI {landlock.abi()}) does not hold: {', '.join(lacking)}")


def _drop_capabilities() -> None:
    sc.set_no_new_privs()
    sc.capset_none()


def _filter_calls(program: bytes, listeners: list[int] | None) -> None:
    if listeners is None:
        seccomp.load(seccomp.unnamed(program))
    elif (listener := seccomp.load(program)) is not None:
        listeners.append(listener)

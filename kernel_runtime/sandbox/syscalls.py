"""The kernel calls that Python lacks, thin and typed; the only file that imports ctypes.

Each call raises ``OSError(errno, "name: message")``. Nothing here decides anything. The file
is on the start path of the zygote and of every guest, so importing it stays cheap.
"""

from __future__ import annotations

import ctypes
import os
import struct
from ctypes import c_char_p, c_int, c_long, c_size_t, c_ulong
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

AnyPath = str | bytes | os.PathLike[str]

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000

MNT_DETACH = 0x2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_NOSYMFOLLOW = 0x200000
MOUNT_ATTR_IDMAP = 0x100000

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 0x1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
MOVE_MOUNT_F_EMPTY_PATH = 0x4

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 0x8
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 0x20

LANDLOCK_CREATE_RULESET_VERSION = 0x1
LANDLOCK_RULE_PATH_BENEATH = 1

#: Calls without a libc wrapper that are numbered differently on each machine.
_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {"pivot_root": 155, "seccomp": 317, "capset": 126},
    "aarch64": {"pivot_root": 41, "seccomp": 277, "capset": 91},
}
#: Numbers from 424 on are the same everywhere.
_COMMON_NUMBERS = {
    "open_tree": 428,
    "move_mount": 429,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}

ARCH = os.uname().machine
NUMBERS = _COMMON_NUMBERS | _NUMBERS.get(ARCH, {})

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = c_long
for _name, _argtypes in {
    "unshare": [c_int],
    "setns": [c_int, c_int],
    "mount": [c_char_p, c_char_p, c_char_p, c_ulong, c_char_p],
    "umount2": [c_char_p, c_int],
    "sethostname": [c_char_p, c_size_t],
    "prctl": [c_int, c_ulong, c_ulong, c_ulong, c_ulong],
}.items():
    getattr(_libc, _name).argtypes = _argtypes


def _checked(name: str, result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _syscall(name: str, *arguments: int | bytes | ctypes.Structure | None) -> int:
    """Integers are widened by hand: an unprototyped ctypes call would pass only 32 bits."""
    number = NUMBERS.get(name)
    if number is None:
        raise NotImplementedError(f"{name} has no known number on {ARCH}")
    passed = [
        c_long(a) if isinstance(a, int) else ctypes.byref(a) if isinstance(a, ctypes.Structure) else a
        for a in arguments
    ]
    return _checked(name, int(_libc.syscall(c_long(number), *passed)))


def _path(path: AnyPath | None) -> bytes | None:
    """A NUL would silently cut the path short on its way into C."""
    if path is None:
        return None
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise ValueError(f"a path cannot hold a NUL byte: {path!r}")
    return raw


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``CLONE_NEW*`` flags for new ones."""
    _checked("unshare", _libc.unshare(flags))


def setns(fd: int, nstype: int = 0) -> None:
    """Enter the namespace behind ``fd``."""
    _checked("setns", _libc.setns(fd, nstype))


def mount(
    source: AnyPath | None,
    target: AnyPath,
    fstype: str | None = None,
    flags: int = 0,
    data: str | None = None,
) -> None:
    """mount(2); ``data`` are the file system's own options, comma-separated."""
    name = f"mount {os.fsdecode(target)}"
    _checked(name, _libc.mount(_path(source), _path(target), _path(fstype), flags, _path(data)))


def umount2(target: AnyPath, flags: int = 0) -> None:
    """umount2(2) with ``MNT_*`` flags."""
    _checked(f"umount2 {os.fsdecode(target)}", _libc.umount2(_path(target), flags))


def pivot_root(new: AnyPath, old: AnyPath) -> None:
    """Make ``new`` the root and put the old root at ``old`` (both may be ``"."``)."""
    _syscall("pivot_root", _path(new), _path(old))


def sethostname(name: str) -> None:
    """Set the host name of the present UTS namespace."""
    raw = name.encode()
    _checked("sethostname", _libc.sethostname(raw, len(raw)))


def mount_setattr(
    dirfd: int,
    path: AnyPath,
    at_flags: int = 0,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """Set and clear ``MOUNT_ATTR_*``; with ``AT_RECURSIVE`` on a whole tree."""
    attributes = struct.pack("=QQQQ", attr_set, attr_clr, propagation, userns_fd)
    _syscall("mount_setattr", dirfd, _path(path), at_flags, attributes, len(attributes))


def openat2(dirfd: int, path: AnyPath, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """A descriptor, reached by no other way than ``RESOLVE_*`` lets; EAGAIN: something moved meanwhile."""
    how = struct.pack("=QQQ", flags, mode, resolve)
    return _syscall("openat2", dirfd, _path(path), how, len(how))


def open_tree(dirfd: int, path: AnyPath, flags: int) -> int:
    """A descriptor of a mount, or of a detached copy with ``OPEN_TREE_CLONE``."""
    return _syscall("open_tree", dirfd, _path(path), flags)


def move_mount(from_fd: int, from_path: AnyPath, to_fd: int, to_path: AnyPath, flags: int) -> None:
    """Attach or move the mount named by the first pair to the second."""
    _syscall("move_mount", from_fd, _path(from_path), to_fd, _path(to_path), flags)


def prctl(option: int, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
    """prctl(2) for options that take integers."""
    return _checked(f"prctl({option})", _libc.prctl(option, a2, a3, a4, a5))


def set_no_new_privs() -> None:
    """From now on no execve grants privileges; cannot be undone."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def set_dumpable(dumpable: bool) -> None:
    """Whether others of the same user may trace this process and read its /proc files."""
    prctl(PR_SET_DUMPABLE, int(dumpable))


def set_pdeathsig(signal_number: int) -> None:
    """The signal this process gets when the thread that forked it ends (0: none)."""
    prctl(PR_SET_PDEATHSIG, signal_number)


def set_child_subreaper(reaper: bool = True) -> None:
    """Whether orphans below this process become its children."""
    prctl(PR_SET_CHILD_SUBREAPER, int(reaper))


def capset_none() -> bool:
    """Give up every capability of this thread; whether the bounding set is empty, too.

    The bounding set goes first: emptying it takes a capability (``CAP_SETPCAP``) which an
    ordinary user outside a user namespace never had. ``no_new_privs`` covers that case.
    """
    bounded = _drop_bounding()
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    version_3 = struct.pack("=Ii", 0x20080522, 0)
    _syscall("capset", version_3, bytes(24))
    return bounded


def _drop_bounding() -> bool:
    """Whether every capability that this kernel knows (they are numbered from 0) is out of the
    bounding set now."""
    bounded, prctl = True, _libc.prctl
    for capability in range(64):
        if prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            held = prctl(PR_CAPBSET_READ, capability, 0, 0, 0)
            if held < 0:
                break
            bounded = bounded and held == 0
    return bounded


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", c_char_p))


def seccomp_load(program: bytes, flags: int = 0) -> int:
    """Install a filter of 8-byte BPF instructions; needs ``no_new_privs``; cannot be undone.

    With ``SECCOMP_FILTER_FLAG_NEW_LISTENER`` the listener's descriptor (closed on exec), else 0.
    """
    filled = _FilterProgram(len(program) // 8, program)
    answer = _syscall("seccomp", SECCOMP_SET_MODE_FILTER, flags, filled)
    if answer and not flags & SECCOMP_FILTER_FLAG_NEW_LISTENER:
        raise OSError(3, f"seccomp: thread {answer} could not be put behind the filter")
    return answer


def landlock_create_ruleset(attributes: bytes | None, flags: int = 0) -> int:
    """A ruleset descriptor; with ``LANDLOCK_CREATE_RULESET_VERSION`` and None, the ABI."""
    return _syscall("landlock_create_ruleset", attributes, len(attributes or b""), flags)


def landlock_add_rule(ruleset_fd: int, rule_type: int, rule: bytes) -> None:
    """Allow what ``rule`` (a packed ``landlock_*_attr``) says."""
    _syscall("landlock_add_rule", ruleset_fd, rule_type, rule, 0)


def landlock_restrict_self(ruleset_fd: int, flags: int = 0) -> None:
    """Put this thread behind the ruleset; needs ``no_new_privs``; cannot be undone."""
    _syscall("landlock_restrict_self", ruleset_fd, flags)


def remove_ipc(proc: str = "/proc") -> None:
    """Remove every System V object of this IPC namespace: they outlive the processes that made them."""
    for kind, remove in _IPC_REMOVERS.items():
        try:
            with open(f"{proc}/sysvipc/{kind}") as file:
                lines = file.read().splitlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without them
        for line in lines:
            remove(int(line.split()[1]))


_IPC_RMID = 0
_IPC_REMOVERS: dict[str, Callable[[int], int]] = {
    "shm": lambda number: _libc.shmctl(number, _IPC_RMID, None),
    "sem": lambda number: _libc.semctl(number, 0, _IPC_RMID),
    "msg": lambda number: _libc.msgctl(number, _IPC_RMID, None),
}


def close_range(first: int, last: int = 0x7FFFFFFF, flags: int = 0) -> None:
    """Close the descriptors ``first`` to ``last``, both included."""
    _syscall("close_range", first, last, flags)

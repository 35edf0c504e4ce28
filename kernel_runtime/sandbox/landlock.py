"""The second wall around files, and the one around signals and abstract sockets.

Landlock grew by ABI versions; ``features`` says what a kernel can enforce, ``restrict`` does
that much and names it, and the caller decides whether it is enough. Once a process is behind
a ruleset it can mount nothing any more, so this wall goes up after the mounts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct

import msgspec

from kernel_runtime.sandbox import syscalls

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_BLOCK = 1 << 6, 1 << 11
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
BIND_TCP, CONNECT_TCP = 1 << 0, 1 << 1
SCOPE_ABSTRACT_UNIX, SCOPE_SIGNAL = 1 << 0, 1 << 1
SCOPES_SINCE = 6

#: Bits 0–12 came with ABI 1: reading, writing, executing, removing, making of each kind.
FIRST_RIGHTS = (1 << 13) - 1
READ_EXEC = EXECUTE | READ_FILE | READ_DIR
#: Rights that mean something on a file; the kernel refuses the others there.
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV


class Ruleset(msgspec.Struct, frozen=True, kw_only=True):
    """What stays allowed. ``read_exec``: paths (whole trees) to read and run; ``read_write``:
    to do everything with but make device nodes. Paths that do not exist are passed over, of
    ``wanted`` (to read and run) those that this user cannot reach, too.

    ``tcp`` may stay True where a network namespace of its own leads nowhere. The scopes cut
    off abstract sockets and signals of processes outside this ruleset.
    """

    read_exec: tuple[str, ...] = ()
    read_write: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    tcp: bool = True
    scope_abstract_unix: bool = True
    scope_signal: bool = True


def abi() -> int:
    """The kernel's Landlock version; 0 where it is absent or switched off."""
    try:
        return syscalls.landlock_create_ruleset(None, syscalls.LANDLOCK_CREATE_RULESET_VERSION)
    except (OSError, NotImplementedError):
        return 0


def features(rules: Ruleset, version: int) -> list[str]:
    """What of ``rules`` a kernel with this ABI enforces.

    ``files`` always; before ABI 2 links and renames across directories are refused outright,
    before 3 truncating by path is not held, before 5 nor are ioctls on devices.
    """
    since = {
        "files": 1,
        "refer": 2,
        "truncate": 3,
        "tcp": 4,
        "ioctl_dev": 5,
        "abstract_unix": SCOPES_SINCE,
        "signal": SCOPES_SINCE,
    }
    unwanted = {
        "tcp": rules.tcp,
        "abstract_unix": not rules.scope_abstract_unix,
        "signal": not rules.scope_signal,
    }
    return [name for name, first in since.items() if version >= first and not unwanted.get(name)]


def restrict(rules: Ruleset) -> list[str]:
    """Put this thread and its future children behind ``rules``; returns what is enforced.

    An empty list means that there is no such wall here. Sets ``no_new_privs``.
    """
    enforced = features(rules, abi())
    if not enforced:
        return []
    files = handled_files(enforced)
    ruleset = syscalls.landlock_create_ruleset(_attributes(enforced, files))
    try:
        for path in rules.read_exec:
            _allow(ruleset, path, READ_EXEC)
        for path in rules.wanted:
            with contextlib.suppress(PermissionError):
                _allow(ruleset, path, READ_EXEC)
        for path in rules.read_write:
            _allow(ruleset, path, files & ~(MAKE_CHAR | MAKE_BLOCK))
        syscalls.set_no_new_privs()
        syscalls.landlock_restrict_self(ruleset)
    finally:
        os.close(ruleset)
    return enforced


def set_apart() -> None:
    """Keep this process and its future children from signalling those they come from."""
    if abi() < SCOPES_SINCE:
        return
    ruleset = syscalls.landlock_create_ruleset(struct.pack("=3Q", 0, 0, SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL))
    try:
        syscalls.landlock_restrict_self(ruleset)
    finally:
        os.close(ruleset)


def handled_files(enforced: list[str]) -> int:
    """The file rights under control: what no rule grants of them is refused."""
    later = {"refer": REFER, "truncate": TRUNCATE, "ioctl_dev": IOCTL_DEV}
    return FIRST_RIGHTS | sum(right for name, right in later.items() if name in enforced)


def _attributes(enforced: list[str], files: int) -> bytes:
    """``struct landlock_ruleset_attr``, only as long as an old kernel would know it."""
    ports = BIND_TCP | CONNECT_TCP if "tcp" in enforced else 0
    scopes = SCOPE_ABSTRACT_UNIX * ("abstract_unix" in enforced) | SCOPE_SIGNAL * ("signal" in enforced)
    fields = [files, ports, scopes]
    while fields[-1] == 0:
        fields.pop()
    return struct.pack(f"={len(fields)}Q", *fields)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return
        raise
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= FILE_RIGHTS
        rule = struct.pack("=Qi", rights, fd)
        syscalls.landlock_add_rule(ruleset, syscalls.LANDLOCK_RULE_PATH_BENEATH, rule)
    finally:
        os.close(fd)

"""Files below a directory, reached so that nothing leads out of it: no links, no detours.

The kernel resolves the path in one step (``openat2``), so there is no moment between a check and its use.
Names come from guests; descriptors go to whoever asked only after they were looked at.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING

from kernel_runtime.sandbox import syscalls as sc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NO_WAY_OUT = sc.RESOLVE_BENEATH | sc.RESOLVE_NO_MAGICLINKS | sc.RESOLVE_NO_SYMLINKS
#: So often at most a path is tried anew because somebody moved something while it was resolved.
_TRIES = 64
CHUNK = 1 << 20


class NotRegular(OSError):
    """A directory, device, pipe or socket where a regular file is meant."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EINVAL, "no regular file", path)


def open_beneath(directory: int, path: str, flags: int, *, one_mount: bool = False) -> int:
    """Open ``path`` below ``directory`` (empty: itself); ``OSError`` with ELOOP where a link is in it, EXDEV
    where it leads out. ``one_mount``: what is mounted below does not count."""
    resolve = _NO_WAY_OUT | (sc.RESOLVE_NO_XDEV if one_mount else 0)
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            return sc.openat2(directory, path or ".", flags | os.O_CLOEXEC, 0, resolve)
    raise OSError(errno.EBUSY, "it is being moved about", path)


def open_regular(directory: int, path: str, flags: int, *, one_mount: bool = False) -> int:
    """A regular file. It is looked at before it is opened: opening a pipe or device does something."""
    place = open_beneath(directory, path, os.O_PATH, one_mount=one_mount)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise NotRegular(path)
        return os.open(f"/proc/self/fd/{place}", flags | os.O_CLOEXEC | os.O_NOCTTY)
    finally:
        os.close(place)


@contextlib.contextmanager
def opened(directory: int, path: str, *, one_mount: bool = False) -> Iterator[int]:
    """A directory below, for what is done in it by name."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    place = open_beneath(directory, path, flags, one_mount=one_mount)
    try:
        yield place
    finally:
        os.close(place)


def status(directory: int, name: str) -> os.stat_result | None:
    """What is there under that name, not followed; ``None``: nothing."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def kind(mode: int) -> str:
    """``file``, ``directory``, ``link`` or ``special`` (devices, pipes, sockets)."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "special"


def write_all(fd: int, data: bytes) -> None:
    """All of it, however little the kernel takes at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def replace(
    directory: int, name: str, chunks: Iterable[bytes], mode: int, owner: os.stat_result | None = None
) -> None:
    """Make or replace a file in one step: who reads finds the old one or the new one, never a part. A link
    of that name is replaced, not followed, and other names of the old file keep the old content.
    ``owner``: whose it is to be, where this process may give files away."""
    temporary = f".{secrets.token_hex(8)}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        try:
            for chunk in chunks:
                write_all(fd, chunk)
            if owner is not None:
                give(fd, owner)
            os.fchmod(fd, mode)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise


def give(fd: int, owner: os.stat_result) -> None:
    """To the owner of something else, where this process may."""
    now = os.fstat(fd)
    if (now.st_uid, now.st_gid) != (owner.st_uid, owner.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(fd, owner.st_uid, owner.st_gid)


def chunks(fd: int, most: int) -> Iterator[bytes]:
    """What a file holds, no more than ``most`` bytes of it: EFBIG when there are more."""
    left = most
    while data := os.read(fd, CHUNK):
        left -= len(data)
        if left < 0:
            raise OSError(errno.EFBIG, f"it holds more than {most} bytes")
        yield data


def split(path: str) -> tuple[str, str]:
    """The directory and the name in it."""
    parent, _, name = path.rpartition("/")
    return parent, name

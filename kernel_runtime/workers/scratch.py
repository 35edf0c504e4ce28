"""Scratch directories on the host, for guests that have no root of their own to write in.

They lie in a private directory below the temporary one and are removed with their guest. What
a guest leaves there is hostile: links are never followed, and a tree of any depth is removed
without a path or a stack that grows with it. Directories of fronts that died are swept.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.errors import Conflict
from kernel_runtime.domain.verdict import Reason, Verdict
from kernel_runtime.sandbox.names import PREFIX, orphaned, unique_name
from kernel_runtime.workers.processes import Layer

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOO_DEEP = 1 << 62
_TICK, _LONGEST_TICK = 0.5, 2.0
_PATIENCE_SECONDS = 5.0
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make(uid: int, gid: int) -> str:
    """A new, empty directory that belongs to the guest's user on the host."""
    path = _parent(private=uid == os.getuid()) / unique_name()
    path.mkdir(mode=0o700)
    if uid != os.getuid():
        os.chown(path, uid, gid)
    return str(path)


def _parent(*, private: bool) -> Path:
    """Where they lie; guests of another user must pass through it, but nobody may list it."""
    path = Path(tempfile.gettempdir()).resolve() / f"kernel-runtime-scratch-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o066:
        raise Conflict(f"{path} is not a private directory of yours; remove it, or set TMPDIR")
    if not private:
        path.chmod(0o711)
    return path


def remove(path: str) -> None:
    """Remove the directory and all below it, once its guest is gone or going."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not _removed(path) and time.monotonic() < deadline:
        time.sleep(0.01)  # a process on its way out has written once more


def _removed(path: str) -> bool:
    try:
        top = os.open(path, _OPEN_DIRECTORY)
    except FileNotFoundError:
        return True
    names = (f"{os.urandom(8).hex()}-{number}" for number in itertools.count())
    try:
        while entries := os.listdir(top):
            for entry in entries:
                try:
                    os.unlink(entry, dir_fd=top)
                except IsADirectoryError:
                    _lift(top, entry, names)
        os.rmdir(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return False
    finally:
        os.close(top)
    return True


def _lift(top: int, name: str, names: Iterator[str]) -> None:
    """Move what is in a directory one up, under new names, and remove the directory."""
    _unlock(top, name)
    inner = os.open(name, _OPEN_DIRECTORY, dir_fd=top)
    try:
        for entry in os.listdir(inner):
            with contextlib.suppress(NotADirectoryError):
                _unlock(inner, entry)  # a directory that moves is written to
            os.rename(entry, next(names), src_dir_fd=inner, dst_dir_fd=top)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=top)


def _unlock(parent: int, name: str) -> None:
    """Give a directory back to its owner; never what a link put in its place leads to."""
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
    finally:
        os.close(fd)


class Watch:
    """Holds a scratch directory to its limits, as far as looking at it now and then can."""

    def __init__(self, path: str, size: int, inodes: int) -> None:
        self._path = path
        self.layer = Layer(0, size, 0, inodes, in_memory=False)

    async def exceeded(self) -> Verdict:
        """Wait until it holds more than it may."""
        while True:
            begun = time.monotonic()
            held, count = await asyncio.to_thread(used, self._path, self.layer.size, self.layer.most_inodes)
            self.layer = msgspec.structs.replace(self.layer, used=held, inodes=count)
            if held > self.layer.size or count > self.layer.most_inodes:
                evidence = f"{count} files in its scratch directory, looked at every {_TICK:g} s"
                return Verdict(reason=Reason.DISK, limit=self.layer.size, used=held, evidence=evidence)
            await asyncio.sleep(min(max(_TICK, 5 * (time.monotonic() - begun)), _LONGEST_TICK))


def used(path: str, size: int = _TOO_DEEP, inodes: int = _TOO_DEEP) -> tuple[int, int]:
    """Bytes and inodes in use below ``path``; no further than what exceeds ``size`` or ``inodes``, for a
    guest may make files faster than they are counted. A tree too deep to be looked at has no end."""
    total = count = 0
    waiting = [path]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    count += 1
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    if total > size or count > inodes:
                        return total, count
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return _TOO_DEEP, count
    return total, count


def sweep() -> None:
    """Remove the directories of fronts that have died."""
    with contextlib.suppress(OSError, Conflict):
        for path in _parent(private=True).glob(f"{PREFIX}-*"):
            if orphaned(path.name):
                with contextlib.suppress(OSError):
                    remove(str(path))

"""Taking files out of a guest's layer, and putting the host's back into it.

Both follow no link, on either side. What is taken out is a regular file with an ordinary mode, written beside
its place and moved there in one step. What is put back is written through the guest's own view of the
directory: the layer below a mounted overlay must not be changed behind its back.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import Conflict
from kernel_runtime.domain.file_changes import Deed, Outcome
from kernel_runtime.sandbox import beneath
from kernel_runtime.workers.overlay import regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kernel_runtime.domain.file_changes import FileChange
    from kernel_runtime.workers.overlay import Overlay

#: A project's policy lies in it: who keeps files there grants.
_POLICY_DIRECTORY = ".kernel-runtime"
_UNKEPT = {
    "link": "a link that the guest made is not kept",
    "special": "only regular files and directories are kept",
}


def keep(changes: Iterable[FileChange], named: str, overlay: Overlay, lower: int) -> Outcome:
    """Make the host's directory as the guest has left it, as far as ``changes`` say. ``named``: the path that
    the owner gave; hidden files and removals are done only to that very path."""

    def one(change: FileChange) -> None:
        _refuse_unkept(change, named)
        if change.deed is Deed.REMOVED:
            _remove(lower, change)
        elif change.kind in _UNKEPT:
            raise Conflict(_UNKEPT[change.kind])
        elif change.kind == "directory":
            os.close(_directory(lower, change.path))
        else:
            _take_out(overlay.upper, lower, change.path)

    return _each(sorted(changes, key=lambda change: change.path), one)


def _refuse_unkept(change: FileChange, named: str) -> None:
    parts = change.path.split("/")
    if _POLICY_DIRECTORY in parts:
        raise Conflict("what grants is written by its owner, never taken from a guest")
    if change.path == named:
        return
    below = change.path.removeprefix(f"{named}/") if named else change.path
    if any(part.startswith(".") for part in below.split("/")):
        raise Conflict("hidden files are kept by their own name only")
    if change.deed is Deed.REMOVED:
        raise Conflict("removals are kept by their own name only")


def _take_out(upper: int, lower: int, path: str) -> None:
    parent, name = beneath.split(path)
    with regular(upper, path) as source:
        mine = os.fstat(source)
        place = _directory(lower, parent)
        try:
            there = beneath.status(place, name)
            if there is not None and not stat.S_ISREG(there.st_mode):
                raise Conflict(f"on the host it is a {beneath.kind(there.st_mode)}")
            allowed = 0o755 if there is None else 0o755 | there.st_mode & 0o777
            data = beneath.chunks(source, mine.st_size)
            beneath.replace(place, name, data, mine.st_mode & allowed, owner=there)
        finally:
            os.close(place)


def _directory(lower: int, path: str) -> int:
    """A directory of the host, made as far as it is not there."""
    place = beneath.open_beneath(lower, "", os.O_RDONLY | os.O_DIRECTORY)
    for name in filter(None, path.split("/")):
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=place)
            inner = beneath.open_beneath(place, name, os.O_RDONLY | os.O_DIRECTORY)
        finally:
            os.close(place)
        place = inner
    return place


def _remove(lower: int, change: FileChange) -> None:
    if change.kind == "directory":
        raise Conflict("a whole directory is removed on the host by its owner only")
    parent, name = beneath.split(change.path)
    with beneath.opened(lower, parent) as place:
        os.unlink(name, dir_fd=place)


def drop(changes: Iterable[FileChange], overlay: Overlay, lower: int) -> Outcome:
    """Make the guest's view of these paths as the host has them."""

    def one(change: FileChange) -> None:
        if change.deed is not Deed.REMOVED and (change.deed is Deed.ADDED or change.kind != "file"):
            _take_away(overlay.merged, change)
        if change.deed is not Deed.ADDED:
            _put_back(overlay, lower, change.path)

    # What is in a directory comes before it.
    return _each(sorted(changes, key=lambda change: change.path, reverse=True), one)


def _take_away(merged: int, change: FileChange) -> None:
    parent, name = beneath.split(change.path)
    with beneath.opened(merged, parent, one_mount=True) as place:
        remove = os.rmdir if change.kind == "directory" else os.unlink
        remove(name, dir_fd=place)


def _put_back(overlay: Overlay, lower: int, path: str) -> None:
    """Its content comes from the host's directory, and only what the guest could read there."""
    parent, name = beneath.split(path)
    with regular(lower, path) as source, beneath.opened(overlay.merged, parent, one_mount=True) as place:
        was = os.fstat(source)
        if not (was.st_uid == os.geteuid() or was.st_mode & stat.S_IROTH):
            raise Conflict("the guest was not allowed to read it; it stays as it is")
        there = beneath.status(place, name)
        if there is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(name, flags, 0o600, dir_fd=place)
        else:
            target = beneath.open_regular(place, name, os.O_WRONLY | os.O_TRUNC, one_mount=True)
        try:
            for data in beneath.chunks(source, was.st_size):
                beneath.write_all(target, data)
            beneath.give(target, os.fstat(overlay.upper))
            os.fchmod(target, was.st_mode & 0o777)
            os.utime(target, ns=(was.st_atime_ns, was.st_mtime_ns))
        finally:
            os.close(target)


def _each(changes: Iterable[FileChange], work: Callable[[FileChange], None]) -> Outcome:
    """One by one: what cannot be done is told, and keeps nothing else from being done."""
    done: list[str] = []
    refused: dict[str, str] = {}
    for change in changes:
        try:
            work(change)
            done.append(change.path)
        except (OSError, Conflict) as error:
            refused[change.path] = str(error) if isinstance(error, Conflict) else error.strerror or str(error)
    return Outcome(done=done, refused=refused)

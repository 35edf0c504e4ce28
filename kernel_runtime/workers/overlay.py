"""The layer that a guest writes to over the notebook's directory, read from outside.

Pid 1 hands out two descriptors before any code of the user's runs: the layer itself, and the directory as the
guest sees it. What is found there is hostile: links are never followed, pipes and devices never opened, and
how much is looked at is bounded. Nothing of it goes through the guest's /proc, or through its processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections import deque
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import Conflict, Invalid, NotFound
from kernel_runtime.domain.file_changes import Deed, FileChange, FileChanges, show_name
from kernel_runtime.sandbox import beneath

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_ENTRIES = 20_000
#: Bytes of equally long files that one listing compares; beyond it they count as changed.
MOST_COMPARED = 64 << 20
#: What of a mode is ever kept; the rest is no difference.
_KEPT_MODE = 0o755
_OPAQUE = "user.overlay.opaque"


class Overlay:
    """``upper``: what was written; ``merged``: what the guest sees; ``lower``: the host's directory, once opened."""

    def __init__(self, upper: int, merged: int) -> None:
        self.upper = upper
        self.merged = merged

    def copy(self) -> Overlay:
        """The same, for somebody else to close; ``Conflict`` when it is closed."""
        if self.upper < 0:
            raise Conflict("the guest has just ended")
        return Overlay(os.dup(self.upper), os.dup(self.merged))

    def close(self) -> None:
        """Idempotent."""
        for fd in (self.upper, self.merged):
            if fd >= 0:
                os.close(fd)
        self.upper = self.merged = -1


@contextlib.contextmanager
def lower(directory: str) -> Iterator[int]:
    """The host's directory."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def normal(path: str) -> str:
    """A path below the directory as it is in listings; empty: the directory. ``Invalid`` for what leads out."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise Invalid(f"{show_name(path)}: name a file below the notebook's directory, relative to it")
    return "/".join(parts)


class Walk:
    """One look at all that differs."""

    def __init__(self, overlay: Overlay, below: int) -> None:
        self._upper = overlay.upper
        self._lower = below
        self._left = MOST_ENTRIES
        self._compared = MOST_COMPARED
        self._waiting: deque[str] = deque([""])
        self._changes: list[FileChange] = []
        self._unread: dict[str, str] = {}

    def changes(self) -> FileChanges:
        while self._waiting:
            path = self._waiting.popleft()
            try:
                self._look_into(path)
            except OSError as error:
                self._unread[path] = error.strerror or str(error)
        return FileChanges(changes=sorted(self._changes, key=lambda c: c.path), unread=self._unread)

    def _look_into(self, path: str) -> None:
        with (
            beneath.opened(self._upper, path, one_mount=True) as directory,
            self._same_on_host(path) as host,
            os.scandir(directory) as entries,
        ):
            hides = host is not None and _is_opaque(directory)
            names = set()
            for entry in entries:
                self._left -= 1
                if self._left < 0:
                    self._unread[path] = f"there are more than {MOST_ENTRIES} entries"
                    return
                names.add(entry.name)
                self._compare(f"{path}/{entry.name}".lstrip("/"), directory, host)
            if hides and host is not None:
                self._hidden(path, host, names)

    @contextlib.contextmanager
    def _same_on_host(self, path: str) -> Iterator[int | None]:
        """The directory of that path on the host; None where there is none (or something else)."""
        with contextlib.ExitStack() as stack:
            try:
                found = stack.enter_context(beneath.opened(self._lower, path))
            except OSError:
                found = None
            yield found

    def _hidden(self, path: str, host: int, names: set[str]) -> None:
        """The directory was removed and made anew: nothing of the host's is in it."""
        for name in os.listdir(host)[: max(0, self._left)]:
            self._left -= 1
            if name not in names and (was := beneath.status(host, name)) is not None:
                self._note(f"{path}/{name}".lstrip("/"), Deed.REMOVED, None, was)

    def _compare(self, path: str, directory: int, host: int | None) -> None:
        name = beneath.split(path)[1]
        now = beneath.status(directory, name)
        was = None if host is None else beneath.status(host, name)
        if now is None:
            return  # it has just gone
        if stat.S_ISCHR(now.st_mode) and now.st_rdev == 0:  # the overlay's mark of what was removed
            if was is not None:
                self._note(path, Deed.REMOVED, None, was)
            return
        if stat.S_ISDIR(now.st_mode):
            self._waiting.append(path)
            if was is not None and stat.S_ISDIR(was.st_mode):
                return
        elif was is not None and host is not None and self._equal(name, directory, host, now, was):
            return
        target = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(now.st_mode) else ""
        self._note(path, Deed.ADDED if was is None else Deed.CHANGED, now, was, target)

    def _note(
        self,
        path: str,
        deed: Deed,
        now: os.stat_result | None,
        was: os.stat_result | None,
        target: str = "",
    ) -> None:
        about = now or was
        kind = "special" if about is None else beneath.kind(about.st_mode)
        self._changes.append(
            FileChange(path=path, deed=deed, kind=kind, size=_size(now), before=_size(was), target=target)
        )

    def _equal(self, name: str, directory: int, host: int, now: os.stat_result, was: os.stat_result) -> bool:
        """Written to, and yet the same: times are the guest's to set, so contents are compared."""
        if stat.S_IFMT(now.st_mode) != stat.S_IFMT(was.st_mode) or (now.st_mode ^ was.st_mode) & _KEPT_MODE:
            return False
        if stat.S_ISLNK(now.st_mode):
            return os.readlink(name, dir_fd=directory) == os.readlink(name, dir_fd=host)
        if not stat.S_ISREG(now.st_mode) or now.st_size != was.st_size:
            return False
        self._compared -= now.st_size
        if self._compared < 0:
            return False
        with contextlib.suppress(OSError), regular(directory, name) as one, regular(host, name) as other:
            return digest(one, now.st_size) == digest(other, now.st_size)
        return False


@contextlib.contextmanager
def regular(directory: int, path: str) -> Iterator[int]:
    """A regular file of the layer or the host's, for reading."""
    fd = beneath.open_regular(directory, path, os.O_RDONLY, one_mount=True)
    try:
        yield fd
    finally:
        os.close(fd)


def digest(fd: int, size: int) -> str:
    """Of a file that holds no more than that (EFBIG: it does)."""
    found = hashlib.sha256()
    for data in beneath.chunks(fd, size):
        found.update(data)
    return found.hexdigest()


def _size(status: os.stat_result | None) -> int | None:
    return status.st_size if status is not None and stat.S_ISREG(status.st_mode) else None


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError:
        return False


def find(found: FileChanges, path: str) -> list[FileChange]:
    """The change of that path and those below it; ``NotFound`` when there are none."""
    chosen = [c for c in found.changes if not path or c.path == path or c.path.startswith(f"{path}/")]
    if not chosen and path:
        raise NotFound(f"{show_name(path)}: the guest has not changed it; `%files` lists what it has")
    return chosen

"""The capability ``files``: what of the host's files was granted, read and written for a guest.

Reading hands out a descriptor (``open``), or bytes (``read``). A descriptor passes the broker by from then on,
so it comes from a read-only mount: it cannot be opened anew for writing, nor change the file's mode or times.

Writing is calls only (``write``, whole or appended), never a descriptor: nobody could count what goes through
one, nor take it back when the quota is used up. The size of each call is counted when it is *allowed*, in one
transaction with the decision, so a quota holds however many write at once.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from kernel_runtime.broker.handler import Call, Performed
from kernel_runtime.broker.roots import Roots, check_regular
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import Conflict, Invalid, KernelRuntimeError, NotFound, StorageFailed
from kernel_runtime.domain.places import advice
from kernel_runtime.domain.scopes import parse_request
from kernel_runtime.sandbox import beneath

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from kernel_runtime.broker.handler import Demand

#: Bytes of one ``read`` or ``write``, and entries of one ``list``.
MOST_BYTES = 4 << 20
MOST_ENTRIES = 10_000
#: What a file that was made for a guest may be to others; nothing it makes is executable.
_NEW_MODE = 0o644
_Path = Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
_Content = Annotated[bytes, msgspec.Meta(max_length=MOST_BYTES)]
_Amount = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
_Size = Annotated[int, msgspec.Meta(ge=1, le=MOST_BYTES)]
T = TypeVar("T")


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``list``, ``stat``, ``remove``."""

    path: _Path


class Open(Named, frozen=True, forbid_unknown_fields=True):
    """``mode``: ``r`` or ``rb``; the descriptor is the same."""

    mode: str = "r"


class Read(Named, frozen=True, forbid_unknown_fields=True):
    offset: _Amount = 0
    size: _Size = MOST_BYTES


class Write(Named, frozen=True, forbid_unknown_fields=True):
    content: _Content = b""
    append: bool = False


class Files:
    """The handler. ``base``: what relative paths are below (the app's directory; empty: there are none);
    ``roots``, ``kept``: see ``Roots``."""

    name = "files"

    def __init__(self, *, base: str = "", roots: Iterable[str] = ("/",), kept: Iterable[str] = ()) -> None:
        self._base = base
        self._roots = Roots(roots, kept)
        self._actions: dict[str, Callable[[Call, Demand], Awaitable[Performed]]] = {
            "open": self._open,
            "read": self._read,
            "list": self._list,
            "stat": self._stat,
            "write": self._write,
            "remove": self._remove,
        }

    async def perform(self, call: Call, demand: Demand) -> Performed:
        """See ``Handler``."""
        action = self._actions.get(call.action)
        if action is None:
            raise Invalid(f"files cannot {call.action!r}; {advice(call.action, self._actions)}")
        return await action(call, demand)

    async def close(self) -> None:
        """See ``Handler``."""
        self._roots.close()

    # -- reading ---------------------------------------------------------------------------------

    async def _open(self, call: Call, demand: Demand) -> Performed:
        asked = _decoded(call, Open)
        if asked.mode not in ("r", "rb"):
            raise Invalid(f"open: {asked.mode!r}: a descriptor is for reading (r, rb); `write` takes bytes")
        root, rest, path = await self._granted(call, demand, "read", asked.path)
        fd = await self._opened(path, root, rest)
        return Performed(value={"size": os.fstat(fd).st_size}, descriptors=(fd,))

    async def _opened(self, path: str, root: str, rest: str) -> int:
        """Whoever gives up waiting leaves no descriptor behind."""
        opening = asyncio.ensure_future(_performed(path, self._descriptor, root, rest))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unclaimed)
            raise

    def _descriptor(self, root: str, rest: str) -> int:
        return _open_file(self._roots.read_only(root), rest, os.O_RDONLY)

    async def _read(self, call: Call, demand: Demand) -> Performed:
        asked = _decoded(call, Read)
        root, rest, path = await self._granted(call, demand, "read", asked.path)
        data = await _performed(path, self._bytes, root, rest, asked)
        return Performed(value=data, size=len(data))

    def _bytes(self, root: str, rest: str, asked: Read) -> bytes:
        with self._roots.opened(root) as top:
            fd = _open_file(top, rest, os.O_RDONLY)
        try:
            return os.pread(fd, asked.size, asked.offset)
        finally:
            os.close(fd)

    async def _list(self, call: Call, demand: Demand) -> Performed:
        asked = _decoded(call, Named)
        root, rest, path = await self._granted(call, demand, "read", asked.path)
        return Performed(value=await _performed(path, self._listing, root, rest))

    def _listing(self, root: str, rest: str) -> dict[str, Any]:
        entries: list[dict[str, Any]] = []
        left_out = 0
        with (
            self._roots.opened(root) as top,
            beneath.opened(top, rest) as directory,
            os.scandir(directory) as found,
        ):
            for entry in found:
                # What has no name in text could be shown, but never be asked for.
                if len(entries) == MOST_ENTRIES or not entry.name.isprintable():
                    left_out += 1
                elif (status := beneath.status(directory, entry.name)) is not None:
                    entries.append({"name": entry.name, **_described(status)})
        return {"entries": sorted(entries, key=lambda entry: str(entry["name"])), "left_out": left_out}

    async def _stat(self, call: Call, demand: Demand) -> Performed:
        asked = _decoded(call, Named)
        root, rest, path = await self._granted(call, demand, "read", asked.path)
        return Performed(value=await _performed(path, self._status, root, rest))

    def _status(self, root: str, rest: str) -> dict[str, Any]:
        with self._roots.opened(root) as top:
            fd = beneath.open_beneath(top, rest, os.O_PATH)
        try:
            return _described(os.fstat(fd))
        finally:
            os.close(fd)

    # -- writing ---------------------------------------------------------------------------------

    async def _write(self, call: Call, demand: Demand) -> Performed:
        asked = _decoded(call, Write)
        size = len(asked.content)
        root, rest, path = await self._granted(call, demand, "write", asked.path, size=size)
        put = self._append if asked.append else self._replace
        await _performed(path, put, root, rest, asked.content)
        return Performed(value={"size": size}, size=size)

    def _replace(self, root: str, rest: str, content: bytes) -> None:
        parent, name = beneath.split(rest)
        with self._roots.opened(root) as top, beneath.opened(top, parent) as directory:
            there = beneath.status(directory, name)
            if there is not None and not stat.S_ISREG(there.st_mode):
                raise beneath.NotRegular(rest)
            mode = _NEW_MODE if there is None else there.st_mode & 0o777
            beneath.replace(directory, name, (content,), mode)

    def _append(self, root: str, rest: str, content: bytes) -> None:
        with self._roots.opened(root) as top:
            try:
                fd = _open_file(top, rest, os.O_WRONLY | os.O_APPEND)
            except FileNotFoundError:
                return self._replace(root, rest, content)
        try:
            if os.fstat(fd).st_nlink != 1:
                raise Conflict(f"{rest}: the file has other names, which were not granted; write it whole")
            beneath.write_all(fd, content)
        finally:
            os.close(fd)

    async def _remove(self, call: Call, demand: Demand) -> Performed:
        asked = _decoded(call, Named)
        root, rest, path = await self._granted(call, demand, "write", asked.path)
        await _performed(path, self._unlink, root, rest)
        return Performed()

    def _unlink(self, root: str, rest: str) -> None:
        parent, name = beneath.split(rest)
        with self._roots.opened(root) as top, beneath.opened(top, parent) as directory:
            os.unlink(name, dir_fd=directory)

    # -- what is asked, and what may be ----------------------------------------------------------

    async def _granted(
        self, call: Call, demand: Demand, action: str, path: str, *, size: int = 0
    ) -> tuple[str, str, str]:
        """The root, the path below it, and the whole path, once it was allowed: what is compared is what is opened."""
        if not path.startswith("/"):
            if not self._base:
                raise Invalid(f"path: {path!r} is to be absolute")
            path = f"{self._base.rstrip('/')}/{path.removeprefix('./')}"
        scope = parse_request(f"files:{action}:{path}", "path")
        await demand(
            Request(
                scope=scope,
                arguments={"path": scope.target},
                size=size,
                principal=call.principal,
                tenant=call.tenant,
                session=call.session,
            )
        )
        return (*self._roots.apart(scope.target), scope.target)


def _decoded(call: Call, shape: type[T]) -> T:
    try:
        return msgspec.convert(call.arguments, shape, builtin_types=(bytes,))  # text is no base64
    except msgspec.ValidationError as error:
        raise Invalid(f"files {call.action}: {error}") from None


def _open_file(directory: int, path: str, flags: int) -> int:
    fd = beneath.open_regular(directory, path, flags)
    try:
        check_regular(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _close_unclaimed(opening: asyncio.Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())


def _described(status: os.stat_result) -> dict[str, Any]:
    return {
        "kind": beneath.kind(status.st_mode),
        "size": status.st_size,
        "modified": status.st_mtime,
        "mode": status.st_mode & 0o777,
    }


async def _performed(path: str, work: Callable[..., T], *arguments: Any) -> T:
    """Out of the loop's way; trouble is told by the path that was asked, and nothing of the host beside it."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as error:
        raise _told(error, path) from None


def _told(error: OSError, path: str) -> KernelRuntimeError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(f"{path}: there is no such file")
    if error.errno in (errno.ELOOP, errno.EXDEV):
        return Invalid(f"{path}: a link is in it; links are not followed, name the place that it leads to")
    if isinstance(error, beneath.NotRegular) or error.errno in (errno.EISDIR, errno.ENAMETOOLONG):
        return Invalid(f"{path}: {error.strerror}")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG):
        return StorageFailed(f"{path}: {error.strerror}")
    return Conflict(f"{path}: {error.strerror or error}")

"""The files that a session's guest has changed: listed, compared, kept on the host, or dropped. Nothing of it
asks the guest, so that it works while a cell runs."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from kernel_runtime.domain.errors import Conflict, StorageFailed
from kernel_runtime.domain.file_changes import FileChanges, Outcome, show_name
from kernel_runtime.workers import file_diff, keeping
from kernel_runtime.workers.concealing import concealed
from kernel_runtime.workers.overlay import Overlay, Walk, find, lower, normal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernel_runtime.domain.disclosed import Disclosed
    from kernel_runtime.domain.file_changes import FileChange
    from kernel_runtime.workers.init import Init
    from kernel_runtime.workers.terms import Terms

T = TypeVar("T")


class Owner(Protocol):
    """Whose files they are: the session."""

    terms: Terms
    disclosed: Disclosed

    @property
    def init(self) -> Init | None: ...
    async def ready(self) -> object: ...


class Files:
    """``known``: the paths of the last listing, for completion."""

    def __init__(self, owner: Owner) -> None:
        self._owner: Owner | None = owner
        self._lock = asyncio.Lock()
        self.known: list[str] = []

    def close(self) -> None:
        """Let go of the session: nothing of it waits for the collector of cycles."""
        self._owner = None

    async def changes(self) -> FileChanges:
        """All that was added, changed and removed in the notebook's directory."""
        found = await self._with_both(lambda overlay, below: Walk(overlay, below).changes())
        self.known = [change.path for change in found.changes]
        return found

    async def diff(self, path: str) -> str:
        """One file beside the host's."""
        return await self._with_changes(
            normal(path), lambda changes, overlay, below: _only_diff(changes, path, overlay, below)
        )

    async def keep(self, path: str) -> Outcome:
        """Make the host's file as the guest's is (a directory: all that is below)."""
        named = normal(path)
        return await self._with_changes(
            named, lambda changes, overlay, below: keeping.keep(changes, named, overlay, below)
        )

    async def drop(self, path: str = "") -> Outcome:
        """Make the guest's files as the host's are; without a path: all of them."""
        return await self._with_changes(normal(path), keeping.drop)

    async def _with_changes(self, path: str, work: Callable[[list[FileChange], Overlay, int], T]) -> T:
        return await self._with_both(
            lambda overlay, below: work(find(Walk(overlay, below).changes(), path), overlay, below)
        )

    async def _with_both(self, work: Callable[[Overlay, int], T]) -> T:
        owner = self._owner
        if owner is None:
            raise Conflict("the session is closed")
        await owner.ready()
        init, directory = owner.init, owner.terms.workdir
        if init is None or init.overlay is None or directory is None:
            raise Conflict("this guest has no layer over a directory: what it writes is in its own /tmp only")
        async with self._lock:
            with _borrowed(init.overlay) as overlay:
                return await asyncio.to_thread(
                    lambda: concealed(_within(directory, overlay, work), owner.disclosed)
                )


@contextmanager
def _borrowed(overlay: Overlay) -> Iterator[Overlay]:
    """Descriptors of our own: the session may be closed while a thread works with them."""
    copy = overlay.copy()
    try:
        yield copy
    finally:
        copy.close()


def _within(directory: str, overlay: Overlay, work: Callable[[Overlay, int], T]) -> T:
    try:
        with lower(directory) as below:
            return work(overlay, below)
    except OSError as error:
        raise StorageFailed(f"the files could not be read: {error.strerror or error}") from None


def _only_diff(changes: list[FileChange], path: str, overlay: Overlay, below: int) -> str:
    if len(changes) != 1:
        raise Conflict(f"{show_name(path)}: {len(changes)} files changed there; name one of them")
    return file_diff.diff(changes[0], overlay.upper, below)

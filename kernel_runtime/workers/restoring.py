"""Ways of a session through its snapshots: back, over to others and their lines, and on after it was killed."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import msgspec

from kernel_runtime.domain.errors import Conflict, KernelRuntimeError
from kernel_runtime.domain.snapshot import check_name
from kernel_runtime.domain.snapshot_tree import Mark
from kernel_runtime.workers.automatic import OFF
from kernel_runtime.workers.concealing import concealed
from kernel_runtime.workers.freezing import reason
from kernel_runtime.workers.restoration import AS_IT_WAS, How, restoration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.workers.branch import Branch, Pending
    from kernel_runtime.workers.freezing import Live
    from kernel_runtime.workers.kept import Kept
    from kernel_runtime.workers.restoration import Restoration


class Take(Protocol):
    """See ``Snapshots.take``."""

    async def __call__(
        self, name: str = "", *, pinned: bool = False, automatic: bool = False
    ) -> Snapshot: ...


_RUNNING = "a cell is running: interrupt it first, or wait for its end"


class Restoring:
    """See ``Snapshots`` for what each does. ``under_way``: whether the session is just going over."""

    def __init__(self, live: Live, kept: Kept, take: Take) -> None:
        self.under_way = False
        self._unkept = ""
        self._live = live
        self._kept = kept
        self._take = take

    def close(self) -> None:
        """Let go of the session."""
        del self._live, self._take

    async def restore(self, name: str | int, *, reseed: bool) -> Restoration:
        snapshot = self._kept.tree.find(name)
        if snapshot.gate:
            raise Conflict(
                f"{snapshot.title} was made inside a cell, at a gate: `%gate resume {snapshot.number}` goes on there"
            )
        return await self._leave_for(snapshot, How(reseed=reseed))

    async def resume(self, snapshot: Snapshot, pending: Pending, edits: dict[str, str]) -> Restoration:
        return await self._leave_for(snapshot, How(resumed=pending, edits=edits))

    async def undo(self, cells: int) -> Restoration:
        if (await self._live.ready()).executing:
            raise Conflict(_RUNNING)
        return await self._leave_for(self._kept.tree.undone_by(cells))

    async def redo(self) -> Restoration:
        restored = await self.switch(self._kept.tree.redone_by())
        self._kept.become(self._kept.tree.redone())
        return restored

    async def branch(self, line: str) -> Restoration | Snapshot:
        kept = self._kept
        check_name(line)
        if line == kept.tree.line:
            raise Conflict(f"{line!r} is the line that runs now")
        head = await self._take(f"{kept.tree.line}.head-{next(kept.numbers)}", pinned=True)
        left = kept.tree.heads.get(line)
        restored = None if left is None else await self.switch(kept.tree.known[left])
        kept.become(kept.tree.on_line(line, head.number))
        return restored or head

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[Snapshot]:
        here = await self._take(pinned=True)
        try:
            yield here
        finally:
            if self._kept.tree.base != here.number:
                await self.switch(here)
            self._kept.forget([here.number])

    async def _leave_for(self, snapshot: Snapshot, how: How = AS_IT_WAS) -> Restoration:
        """Go over, and keep what is left, for redo: it is copied while the other state comes back."""
        kept, leaving, self._unkept = self._kept, None, OFF
        branch = await self._live.ready()
        if branch.executing or self.under_way:
            return await self.switch(snapshot, how)  # which refuses, with the reason
        # What is left is one more for a moment: nothing is dropped for it, least of all the aim.
        kept.leaving = True
        try:
            if kept.budget.automatic:
                leaving = asyncio.ensure_future(self._left())
            restored = await self.switch(snapshot, how, leaving)
        finally:
            if leaving is not None:
                await asyncio.wait([leaving])
            kept.leaving = False
        left = leaving.result() if leaving is not None else None
        mark = Mark(why=self._unkept) if left is None else Mark(left.number)
        kept.become(kept.tree.left(mark))
        kept.keep_budget()
        return msgspec.structs.replace(restored, unkept=mark.why)

    async def _left(self) -> Snapshot | None:
        """A copy of the present state; None: it can be left, but not come back to."""
        try:
            return await self._take(automatic=True)
        except KernelRuntimeError as error:
            self._unkept = reason(error)
            return None

    async def switch(
        self, snapshot: Snapshot, how: How = AS_IT_WAS, leaving: asyncio.Future[Snapshot | None] | None = None
    ) -> Restoration:
        """Go over, and let go of the present state."""
        if self.under_way:
            raise Conflict("another restore is under way")
        self.under_way = True
        self._live.resume()
        begun = time.monotonic()
        try:
            branch = await self._live.ready()
            if branch.executing:
                raise Conflict(_RUNNING)
            new = await self._thaw(snapshot, how, leaving)
        finally:
            self.under_way = False
        return self._told(snapshot, new, begun)

    async def _thaw(
        self, snapshot: Snapshot, how: How = AS_IT_WAS, leaving: asyncio.Future[Snapshot | None] | None = None
    ) -> Branch:
        kept = self._kept
        source = kept.source(snapshot)
        try:
            new = await self._live.switch(source, how, leaving)
        except (KernelRuntimeError, TimeoutError):
            if not await source.goes_on():
                kept.forget([snapshot.number])
            raise
        kept.become(kept.tree.back_at(snapshot))
        return new

    async def recover(self) -> Restoration | None:
        begun = time.monotonic()
        for snapshot in self._kept.tree.ancestors():
            try:
                new = await self._thaw(snapshot)
            except (KernelRuntimeError, TimeoutError):
                continue
            return self._told(snapshot, new, begun)
        self._kept.become(self._kept.tree.begun_anew())
        return None

    def _told(self, snapshot: Snapshot, branch: Branch, begun: float) -> Restoration:
        told = restoration(snapshot, branch, time.monotonic() - begun)
        return concealed(told, self._live.disclosed)

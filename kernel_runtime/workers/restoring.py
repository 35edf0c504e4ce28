"""Ways of a session through its snapshots: back, over to others and their lines, and on after it was killed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
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
    from collections.abc import AsyncIterator, Awaitable, Callable

    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.workers.branch import Branch, Pending
    from kernel_runtime.workers.freezing import Live
    from kernel_runtime.workers.kept import Kept
    from kernel_runtime.workers.restoration import Restoration

#: How long what was asked before is waited for.
ANSWER_SECONDS = 5.0


#: How often a moment is gone back to that ends before a cell begins in it.
_TRIES = 3


class Take(Protocol):
    """See ``Snapshots.take``."""

    async def __call__(
        self, branch: Branch, name: str = "", *, pinned: bool = False, automatic: bool = False
    ) -> Snapshot: ...


_RUNNING = "a cell is running: interrupt it first, or wait for its end"


class Restoring:
    """See ``Snapshots`` for what each does."""

    def __init__(self, live: Live, kept: Kept, take: Take) -> None:
        self._unkept = ""
        self._live = live
        self._kept = kept
        self._take = take
        self._ended = Counter[int]()
        self._adopted = 0

    def close(self) -> None:
        """Let go of the session."""
        del self._live, self._take

    async def restore(self, name: str | int, *, reseed: bool) -> Restoration:
        snapshot = self._between_cells(name)
        async with self._alone():
            return await self._leave_for(snapshot, How(reseed=reseed))

    def _between_cells(self, name: str | int) -> Snapshot:
        snapshot = self._kept.tree.find(name)
        if snapshot.gate:
            number = snapshot.number
            raise Conflict(
                f"{snapshot.title} was made inside a cell, at a gate: `%gate resume {number}` goes on there "
                f"(in Python gate_resume({number}))"
            )
        return snapshot

    async def resume(self, snapshot: Snapshot, pending: Pending, edits: dict[str, str]) -> Restoration:
        async with self._alone():
            return await self._leave_for(snapshot, How(resumed=pending, edits=edits))

    async def undo(self, cells: int, settled: Callable[[], Awaitable[None]]) -> Restoration:
        async with self._alone():
            await settled()
            return await self._leave_for(self._kept.tree.undone_by(cells))

    async def redo(self) -> Restoration:
        async with self._alone():
            restored = await self.switch(self._kept.tree.redone_by())
            self._kept.become(self._kept.tree.redone())
            return restored

    async def branch(self, line: str, start: str | int | None = None) -> Restoration | Snapshot:
        check_name(line, of="line of state")
        snapshot = None if start is None else self._between_cells(start)
        async with self._alone():
            made = await self._branch_off(line)
            return made if snapshot is None else await self._leave_for(snapshot)

    async def _branch_off(self, line: str) -> Restoration | Snapshot:
        kept = self._kept
        if line == kept.tree.line:
            raise Conflict(f"{line!r} is the line that runs now")
        branch = await self._live.ready()
        head = await self._take(branch, f"{kept.tree.line}.head-{next(kept.numbers)}", pinned=True)
        left = kept.tree.heads.get(line)
        restored = None if left is None else await self.switch(kept.tree.known[left])
        kept.become(kept.tree.on_line(line, head.number))
        return restored or head

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[Snapshot]:
        async with self._alone():
            here = await self._take(await self._live.ready(), pinned=True)
        try:
            yield here
        finally:
            if self._kept.tree.base != here.number:
                await self.visit(here)
            self._kept.forget([here.number])

    async def visit(self, snapshot: Snapshot) -> Restoration:
        async with self._alone():
            return await self.switch(snapshot)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One's turn, between cells, when what was asked before has been answered: it would be lost. What hangs is."""
        async with self._live.turns.turn():
            self._live.resume()
            branch = await self._idle()
            if asked := [pending.ended for pending in branch.pending.values()]:
                await asyncio.wait(asked, timeout=ANSWER_SECONDS)
            yield

    async def _idle(self) -> Branch:
        branch = await self._live.ready()
        if branch.executing:
            raise Conflict(_RUNNING)
        return branch

    async def _leave_for(self, snapshot: Snapshot, how: How = AS_IT_WAS) -> Restoration:
        """Go over, and keep what is left, for redo: it is copied while the other state comes back."""
        kept, leaving, self._unkept = self._kept, None, OFF
        branch = await self._idle()
        # What is left is one more for a moment: nothing is dropped for it, least of all the aim.
        kept.leaving = True
        try:
            if kept.budget.automatic:
                leaving = asyncio.ensure_future(self._left(branch))
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

    async def _left(self, branch: Branch) -> Snapshot | None:
        """A copy of the present state; None: it can be left, but not come back to."""
        try:
            return await self._take(branch, automatic=True)
        except KernelRuntimeError as error:
            self._unkept = reason(error)
            return None

    async def switch(
        self, snapshot: Snapshot, how: How = AS_IT_WAS, leaving: asyncio.Future[Snapshot | None] | None = None
    ) -> Restoration:
        """Go over, and let go of the present state."""
        begun = time.monotonic()
        await self._idle()
        new = await self._thaw(snapshot, how, leaving)
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
        kept.present.drop()  # it is of what was left
        kept.become(kept.tree.back_at(snapshot))
        return new

    def begins(self) -> None:
        """A cell begins: what has come back is alive."""
        self._ended.clear()

    async def recover(self) -> Restoration | None:
        begun = time.monotonic()
        await self._adopt()
        for snapshot in self._kept.tree.ancestors():
            self._ended[snapshot.number] += 1
            if self._ended[snapshot.number] > _TRIES:
                continue
            try:
                new = await self._thaw(snapshot)
            except (KernelRuntimeError, TimeoutError):
                continue
            return self._told(snapshot, new, begun)
        self._kept.become(self._kept.tree.begun_anew())
        return None

    async def _adopt(self) -> None:
        """A copy of the state that has ended, from before what ended it, is its newest snapshot now, in the place of one
        that was adopted when no other cell had begun."""
        kept, order = self._kept, self._kept.present.take_last()
        if order is None:
            return
        earlier = kept.tree.base if kept.tree.is_at_base and kept.tree.base == self._adopted else None
        with contextlib.suppress(KernelRuntimeError):
            snapshot = await kept.add(kept.draft(automatic=True), order)
            self._adopted = snapshot.number
            if earlier is not None and earlier in kept.tree.known and not kept.tree.known[earlier].pinned:
                kept.forget([earlier])

    def _told(self, snapshot: Snapshot, branch: Branch, begun: float) -> Restoration:
        told = restoration(snapshot, branch, time.monotonic() - begun)
        return concealed(told, self._live.disclosed)

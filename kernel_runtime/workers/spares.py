"""Copies made ahead, while the session rests, so that going back to a snapshot forks nothing.

The snapshots that undo and restore most likely go to leave a spare; the present state is copied as what they would leave,
and the next cell comes after. All of them are the first to go when memory is short.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.workers import written
from kernel_runtime.workers.written import Pages

if TYPE_CHECKING:
    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.freezing import Freezing, Live
    from kernel_runtime.workers.kept import Kept

#: How long nothing has changed before they are made; each time it could not be done it is twice as long, and so often.
REST_SECONDS = 0.3
_TIMES = 5
#: Of the way from the present state back, so many snapshots have one.
_MANY = 2
#: A session that holds less is forked quickly, and what spares take would be much of it.
WORTH = 192 * MIB
#: No share of the session's memory beyond this is taken for them; and each takes no more than so much of the budget.
_FREE, _SIZE = 0.7, 16 * MIB
_FILES = ("maps", "pagemap")


class Spares:
    """See the module: they are told when something has changed, and tend to themselves."""

    def __init__(self, live: Live, freezing: Freezing, kept: Kept) -> None:
        self._live = live
        self._freezing = freezing
        self._kept = kept
        self._timer: asyncio.TimerHandle | None = None
        self._making: asyncio.Task[None] | None = None
        self._tried = 0
        self._seen = (0, 0)
        self._closed = False
        self._end = kept.on_changed(self.wait)

    def wait(self) -> None:
        """Make them once the session has rested from now on."""
        self._tried = 0
        self._begin_later()

    def close(self) -> None:
        """Let go of the session; none is made any more."""
        self._closed = True
        self._stop()
        self._end()
        del self._live, self._freezing, self._end  # what ends the listening refers to who listens

    def _begin_later(self) -> None:
        self._stop()
        if not self._closed and self._tried < _TIMES:
            pause = REST_SECONDS * 2**self._tried
            self._timer = asyncio.get_running_loop().call_later(pause, self._begin)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        self._tried += 1
        if self._making is None or self._making.done():
            self._making = self._kept.tend(self.make())

    async def make(self) -> None:
        """Make them now, if it is a moment to."""
        kept, branch = self._kept, self._live.resting
        wanted = kept.tree.ancestors()[:_MANY]
        kept.keep_spares({snapshot.number for snapshot in wanted})
        if branch is None or not wanted or not self._may_be_made():
            return
        is_new = self._seen != (branch.number, branch.asked) or any(map(kept.lacks_spare, wanted))
        pages = await self._pages(branch) if is_new else None  # before the copy of the present shares them
        if not await self._copy_present(branch):
            self._begin_later()
        self._seen = (branch.number, branch.asked)
        for snapshot in wanted:
            if pages is not None and self._may_be_made():
                await kept.spare(snapshot, pages)

    def _may_be_made(self) -> bool:
        init, kept = self._live.init, self._kept
        if init is None or self._live.resting is None:
            return False
        if init.meter.look().memory < WORTH:
            return False
        return init.meter.has_plenty(_FREE) and kept.memory + _SIZE <= kept.budget.memory

    async def _copy_present(self, branch: Branch) -> bool:
        """Whether it was; not of a state that changes by itself, which it may stop to do."""
        present = self._kept.present
        if branch.pending or present.is_of(branch) or not self._kept.budget.automatic:
            return True
        try:
            await present.keep(self._freezing.order(branch, still=True), branch)
        except (KernelRuntimeError, TimeoutError):
            return False
        return True

    async def _pages(self, branch: Branch) -> Pages:
        """Those that the live branch works with; none where this host may not look."""
        init = self._live.init
        if init is None:
            return Pages([], [])
        with contextlib.suppress(OSError):
            maps, pagemap = (
                io.FileIO(init.meter.processes.open(init.pid_of(branch), name)) for name in _FILES
            )
            return await asyncio.to_thread(written.pages, maps, pagemap)
        return Pages([], [])

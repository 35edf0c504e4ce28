"""A copy that is no past of the present state is read alone: a hostile cell may have made of it what it liked, and been undone.

Meanwhile the present state hides (nobody may look into its memory), all other processes of the guest stand still, and
what the copy leaves behind is ended.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from kernel_runtime import wire
from kernel_runtime.domain.errors import Conflict
from kernel_runtime.workers.branch import Pending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.freezing import Freezing, Live

#: How long the present state may take to hide.
HIDE_SECONDS = 10.0


class Seclusion:
    """Of one session."""

    def __init__(self, live: Live, freezing: Freezing) -> None:
        self._live = live
        self._freezing = freezing
        self._numbers = itertools.count(1)
        self._over = asyncio.Event()
        self._over.set()

    async def ended(self) -> None:
        """Until nothing is read alone: what is begun before is taken for what the copy has left behind."""
        await self._over.wait()

    def close(self) -> None:
        """Let go of the session."""
        del self._live, self._freezing

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """For a while; ``Conflict`` while a cell runs, and when the present state does not hide."""
        async with self._live.turns.turn():
            branch = await self._freezing.idle("a snapshot of what was undone is read between cells")
            init = self._live.init
            if init is None:
                raise Conflict("the guest has just ended: no snapshot of it")
            try:
                await self._hide(branch, hidden=True)
                try:
                    self._over.clear()
                    await init.seclude()
                    yield
                finally:
                    try:
                        await init.seclude(over=True)
                    finally:
                        self._over.set()  # whoever gives up waiting for it has asked for it
            finally:
                await self._hide(branch, hidden=False)

    async def _hide(self, branch: Branch, *, hidden: bool) -> None:
        """Its state stays what it is: nothing counts as asked of it."""
        if branch.link.closed:
            return
        order = wire.Hide(id=f"hide-{next(self._numbers)}", hidden=hidden)
        pending = Pending(order, lambda _: None)
        branch.take_over(pending)
        branch.link.send(order)
        done, _ = await asyncio.wait([pending.ended], timeout=HIDE_SECONDS)
        if hidden and not (done and pending.ended.result() is None):
            raise Conflict("the present state does not answer: what was undone is not read beside it")

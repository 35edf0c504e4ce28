"""The snapshot before each cell, as far as it pays: a cell that is killed costs nothing but itself."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import Conflict, KernelRuntimeError
from kernel_runtime.domain.level import Rung
from kernel_runtime.domain.snapshot_cost import Cost
from kernel_runtime.domain.snapshot_tree import Mark
from kernel_runtime.workers.freezing import reason
from kernel_runtime.workers.pristine import Pristine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.freezing import Freezing, Live, Order
    from kernel_runtime.workers.kept import Kept


#: So many may be on their way: each takes a descriptor here, and room for a process there.
_MOST = 16
#: Why there is none where nobody wants them.
OFF = "automatic snapshots are off (undo=0)"


class Automatic:
    """``on``: whether there is to be one before each cell. ``last``: the number of the one that was ordered before
    the last cell; ``coming``: the one that is just being made."""

    def __init__(self, live: Live, freezing: Freezing, kept: Kept, *, on: bool) -> None:
        self.on = on
        self.last: int | None = None
        self.coming: asyncio.Task[None] | None = None
        self.cost = Cost()
        self._live = live
        self._freezing = freezing
        self._kept = kept
        self._told: set[str] = set()
        self._refusal = ""
        self._costs_of = 0
        self._unanswered = 0

    def close(self) -> None:
        """Let go of the session."""
        self.coming = None
        del self._live, self._freezing

    def order(self, branch: Branch, count: int) -> str:
        """See ``Snapshots.before_cell``."""
        self.last = None
        init = self._live.init
        if init is None or self._live.rung is not Rung.NAMESPACES:
            return self._skip("this host refuses namespaces")
        if not self.on:
            return self._skip(OFF)
        self._begin_costs(branch)
        if branch.pristine is not None:
            draft = self._kept.draft(automatic=True)
            self._begin(draft)
            self._record(Pristine(self._live, init, branch.pristine), draft, count)
            return ""
        if init.meter.is_nearly_full():
            full = "memory is nearly used up"
            return self._skip(full, self._tell(f"{full}: no automatic snapshot before this cell"))
        if self._unanswered >= _MOST:
            hangs = "the guest does not make the last ones"
            return self._skip(hangs, self._tell(f"{hangs}: no automatic snapshot before this cell"))
        ordered = self._kept.present.take(branch)
        if ordered is None and not self.cost.pays(self._kept.budget):
            return self._skip_cost()
        try:
            ordered = ordered or self._freezing.order(branch)
        except Conflict as error:
            return self._skip(reason(error))
        draft = self._kept.draft(automatic=True)
        self._begin(draft)
        self._come(self._make(self.coming, draft, ordered, count))
        return ""

    def order_aside(self, branch: Branch) -> None:
        """See ``Snapshots.before_request``."""
        self.last = None
        kept, init = self._kept, self._live.init
        if not self.on or init is None or branch.executing or kept.present.is_there or kept.tree.is_at_base:
            return
        self._begin_costs(branch)
        if branch.pristine is not None:
            self._record(Pristine(self._live, init, branch.pristine), kept.draft(automatic=True))
        elif self._unanswered < _MOST and self.cost.pays(kept.budget) and not init.meter.is_nearly_full():
            with contextlib.suppress(Conflict):
                order = self._freezing.order(branch)
                self._come(self._make_aside(self.coming, order, kept.present.keep(order, branch)))

    def _begin_costs(self, branch: Branch) -> None:
        """What another process said of its copies is not about this one's."""
        if branch.number != self._costs_of:
            self._costs_of, self.cost = branch.number, Cost()

    def _come(self, making: Coroutine[None, None, None]) -> None:
        self.coming = self._kept.tend(making)
        self._unanswered += 1
        self.coming.add_done_callback(self._answered)

    def _answered(self, _: asyncio.Task[None]) -> None:
        self._unanswered -= 1

    def _begin(self, draft: Snapshot) -> None:
        """The cell's mark is there at once, whatever becomes of the snapshot."""
        self.last = draft.number
        self._kept.become(self._kept.tree.began(Mark(draft.number)))

    def _skip(self, why: str, told: str = "") -> str:
        """The cell's mark says that there is none; returns what is ``told``. A copy of what was before is none of what will be."""
        self._kept.present.drop()
        self._kept.become(self._kept.tree.began(Mark(why=why)))
        return told

    def _skip_cost(self) -> str:
        self.cost.forget()
        costs, took = "it costs more than it saves at this size", f"({1000 * self.cost.seconds:.0f} ms)"
        told = self._tell(costs)
        return self._skip(
            f"{costs} {took}", told and f"no automatic snapshot before this cell: {costs} {took}"
        )

    def _record(self, pristine: Pristine, draft: Snapshot, count: int = 0) -> None:
        """Of a branch in which nothing was done yet there is no copy: pid 1 can fork it at any time."""
        kept = self._kept
        self._live.used = True
        kept.record(draft, pristine)
        kept.become(kept.tree.before_cell(draft.number, count))
        kept.keep_budget()

    async def _make(
        self, earlier: asyncio.Task[None] | None, draft: Snapshot, order: Order, count: int
    ) -> None:
        """After the ``earlier`` one: its child in the tree."""
        if earlier is not None and not earlier.done():
            await asyncio.wait([earlier])
        kept = self._kept
        try:
            snapshot = await kept.add(draft, order)
        except KernelRuntimeError as error:
            self._refusal = self._tell(str(error))
            kept.become(kept.tree.refused(draft.number, reason(error)))
            return
        self._pay(order)
        if snapshot.number in kept.tree.known:
            kept.become(kept.tree.before_cell(snapshot.number, count))
        kept.keep_budget()

    async def _make_aside(
        self, earlier: asyncio.Task[None] | None, order: Order, made: Awaitable[None]
    ) -> None:
        """Whoever waits for it waits for the ``earlier`` one as well."""
        with contextlib.suppress(KernelRuntimeError):
            await made
            self._pay(order)
        if earlier is not None and not earlier.done():
            await asyncio.wait([earlier])

    def _pay(self, order: Order) -> None:
        if order.said is not None:
            self.cost.paid(min(order.said.pause, order.said.spent))

    def take_refusal(self) -> str:
        """See ``Snapshots.take_refusal``."""
        refusal, self._refusal = self._refusal, ""
        return refusal

    def _tell(self, reason: str) -> str:
        """Each reason once."""
        if reason in self._told:
            return ""
        self._told.add(reason)
        return reason

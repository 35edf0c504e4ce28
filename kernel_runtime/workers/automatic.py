"""The snapshot before each cell, as far as it pays: a cell that is killed costs nothing but itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import Conflict, KernelRuntimeError
from kernel_runtime.domain.level import Rung
from kernel_runtime.domain.snapshot_cost import Cost
from kernel_runtime.workers.pristine import Pristine

if TYPE_CHECKING:
    from kernel_runtime import wire
    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.freezing import Freezing, Live, Order
    from kernel_runtime.workers.kept import Kept


#: So many may be on their way: each takes a descriptor here, and room for a process there.
_MOST = 16


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
        if not self.on or self._live.rung is not Rung.NAMESPACES:
            return ""
        if (
            branch.number != self._costs_of
        ):  # what another process has said of its copies says nothing of this one's
            self._costs_of, self.cost = branch.number, Cost()
        if branch.pristine is not None:
            self._record(branch.pristine, count)
            return ""
        if self._live.init is not None and self._live.init.meter.is_nearly_full():
            return self._tell("memory is nearly used up: no automatic snapshot before this cell")
        if self._unanswered >= _MOST:
            return self._tell("the guest does not make the last ones: no automatic snapshot before this cell")
        ordered = self._kept.present.take(branch)
        if ordered is None and not self.cost.pays(self._kept.budget):
            self.cost.forget()
            return self._tell_cost(self.cost.seconds)
        try:
            ordered = ordered or self._freezing.order(branch)
        except Conflict:
            return ""
        draft = self._kept.draft(automatic=True)
        self.last = draft.number
        self.coming = self._kept.tend(self._make(self.coming, draft, ordered, count))
        self._unanswered += 1
        self.coming.add_done_callback(self._answered)
        return ""

    def _answered(self, _: asyncio.Task[None]) -> None:
        self._unanswered -= 1

    def _record(self, begin: wire.Begin, count: int) -> None:
        """Of a branch in which nothing was done yet there is no copy: pid 1 can fork it at any time."""
        kept, init = self._kept, self._live.init
        if init is None:
            return
        self._live.used = True
        draft = kept.draft(automatic=True)
        self.last = draft.number
        kept.record(draft, Pristine(self._live, init, begin))
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
            return
        self.cost.paid(min(snapshot.pause, order.said.spent if order.said is not None else snapshot.pause))
        if snapshot.number in kept.tree.known:
            kept.become(kept.tree.before_cell(snapshot.number, count))
        kept.keep_budget()

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

    def _tell_cost(self, seconds: float) -> str:
        told = self._tell("costs more than it saves at this size")
        return told and f"no automatic snapshot before this cell: it {told} ({1000 * seconds:.0f} ms)"

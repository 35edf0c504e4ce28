"""The snapshots that a session keeps: their tree and their processes, within a budget.

Whatever changes the tree, the processes of those that it does not know any more are ended, and listeners are told.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.amounts import show_amount
from kernel_runtime.domain.errors import Conflict, KernelRuntimeError, NotFound
from kernel_runtime.domain.snapshot import Budget, Snapshot
from kernel_runtime.domain.snapshot_tree import Tree
from kernel_runtime.workers.present import Present

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable, Set

    from kernel_runtime.workers.freezing import Order
    from kernel_runtime.workers.frozen import Frozen
    from kernel_runtime.workers.pristine import Pristine
    from kernel_runtime.workers.written import Pages

WEIGH_SECONDS = 2.0


class Kept:
    """See the module. ``leaving``: nothing is dropped just now, for what is left is one more for a moment."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.tree = Tree()
        self.leaving = False
        self.present = Present()
        self.numbers = itertools.count(1)
        self._frozen: dict[int, Frozen] = {}
        self._pristine: dict[int, Pristine] = {}
        self._listeners: list[Callable[[], None]] = []
        self._tending: set[asyncio.Task[None]] = set()
        self._weighing: asyncio.Task[None] | None = None
        self._dropped: list[Snapshot] = []
        self._untold: list[str] = []

    def on_changed(self, listener: Callable[[], None]) -> Callable[[], None]:
        """See ``Snapshots.on_changed``."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def become(self, tree: Tree) -> None:
        """What is known now."""
        if tree is self.tree:
            return
        self.tree = tree
        for number in self._frozen.keys() - tree.known.keys():
            self._frozen.pop(number).drop()
        for number in self._pristine.keys() - tree.known.keys():
            del self._pristine[number]
        for listener in tuple(self._listeners):
            asyncio.get_running_loop().call_soon(listener)

    def forget(self, numbers: Iterable[int]) -> None:
        self.become(self.tree.without(numbers))

    def clear(self) -> None:
        """Their processes are gone."""
        if self._weighing is not None:
            self._weighing.cancel()
        self.present.drop()
        self.become(self.tree.cleared())

    def close(self) -> None:
        """Let go of what is still to be done, and of who listens."""
        self.present.drop()
        for task in self._tending:
            task.cancel()
        self._weighing = None
        self._listeners.clear()

    def tend(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do it meanwhile, until all is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tending.add(task)
        task.add_done_callback(self._tending.discard)
        return task

    # -- one of them -----------------------------------------------------------------------------

    def draft(self, *, name: str = "", pinned: bool = False, automatic: bool = False) -> Snapshot:
        """One of the present state that is to be made."""
        tree = self.tree
        return Snapshot(
            number=next(self.numbers),
            name=name,
            parent=tree.base,
            line=tree.line,
            cell=tree.cell,
            made=time.time(),
            automatic=automatic,
            pinned=pinned,
        )

    async def add(self, draft: Snapshot, order: Order) -> Snapshot:
        """Once it is made; weighed later."""
        said, frozen = await order.made(), order.frozen
        frozen.title = f"the snapshot {draft.title}"
        frozen.on_gone = lambda: self._on_gone(draft.number)
        self._frozen[draft.number] = frozen
        made = msgspec.structs.replace(draft, pause=said.pause, external=frozen.external)
        self.become(self.tree.grown(made))
        snapshot = self.tree.known[draft.number]
        self.keep_budget()
        if self._weighing is None or self._weighing.done():
            self._weighing = self.tend(self._weigh_soon())
        return snapshot

    def record(self, draft: Snapshot, pristine: Pristine) -> None:
        """One that needs no process, and takes nothing."""
        self._pristine[draft.number] = pristine
        self.become(self.tree.grown(msgspec.structs.replace(draft, size=0)))

    def source(self, snapshot: Snapshot) -> Frozen | Pristine:
        """What it comes back from; ``NotFound`` when that is gone."""
        source = self._frozen.get(snapshot.number) or self._pristine.get(snapshot.number)
        if source is None or source.gone:
            self.forget([snapshot.number])
            raise NotFound(f"the snapshot {snapshot.title!r} is lost: its process has ended")
        return source

    @property
    def held(self) -> Set[int]:
        """The numbers of those that have a process."""
        return self._frozen.keys()

    @property
    def pids(self) -> set[int]:
        """The frozen processes, by their numbers within the session."""
        return {pid for frozen in self._frozen.values() for pid in frozen.pids} | self.present.pids

    def _on_gone(self, number: int) -> None:
        """Its process ended by itself, or something in the session killed it."""
        if number in self.tree.known:
            self.become(self.tree.losing(number))

    # -- spares ----------------------------------------------------------------------------------

    @property
    def has_spares(self) -> bool:
        """Whether there are any, or a copy of the present, or one is being made."""
        return self.present.is_there or any(frozen.has_spare for frozen in self._frozen.values())

    def drop_spares(self) -> None:
        """Their memory is needed, and that of the copy of the present."""
        self.present.drop()
        self.keep_spares(())

    def keep_spares(self, numbers: Collection[int]) -> None:
        """Those of these snapshots alone."""
        for number, frozen in self._frozen.items():
            if number not in numbers:
                frozen.drop_spare()

    def lacks_spare(self, snapshot: Snapshot) -> bool:
        """Whether it has a process, and that has none."""
        return snapshot.number in self._frozen and not self._frozen[snapshot.number].has_spare

    async def spare(self, snapshot: Snapshot, pages: Pages) -> None:
        """Have it made, if it can be, and ready for what will be done with it."""
        frozen = self._frozen.get(snapshot.number)
        if frozen is not None:
            with contextlib.suppress(KernelRuntimeError, TimeoutError, OSError):
                await frozen.make_spare()
                await frozen.touch(pages)

    # -- the budget ------------------------------------------------------------------------------

    @property
    def memory(self) -> int:
        """Bytes that all of them hold, as far as they have been weighed."""
        return sum(snapshot.size or 0 for snapshot in self.tree.known.values())

    def check_room(self, draft: Snapshot) -> None:
        """``Conflict`` where the budget would let this one go as soon as it is made."""
        for field in ("count", "memory"):
            if getattr(self.budget, field) == 0:
                raise Conflict(f"the budget allows no snapshots ({field} is 0); pin it, or raise the budget")
        if draft.number in {snapshot.number for snapshot in self.tree.grown(draft).over(self.budget)}:
            raise Conflict(
                f"no snapshot: what is pinned takes the budget of {show_amount('memory', self.budget.memory)}; "
                "unpin or drop one, pin this one, or raise the budget"
            )

    def check_loose(self, snapshot: Snapshot) -> None:
        """``Conflict`` where a line would be gone with it, unless it was unpinned before."""
        for line, head in self.tree.heads.items():
            if snapshot.number == head and snapshot.pinned:
                raise Conflict(
                    f"{snapshot.title} is where the line {line!r} was left: unpin it first, if the line is to be given up"
                )

    def keep_budget(self) -> None:
        """Drop what is beyond it; what a person made is told."""
        if self.memory > self.budget.memory:
            self.drop_spares()
        if not self.leaving:
            over = self.tree.over(self.budget)
            self._dropped += [snapshot for snapshot in over if not snapshot.automatic]
            self.forget(snapshot.number for snapshot in over)

    def take_dropped(self) -> str:
        """See ``Snapshots.take_dropped``."""
        untold, self._untold = self._untold, []
        gone, self._dropped = self._dropped, []
        if gone:
            names = ", ".join(snapshot.title for snapshot in gone)
            many = "s" if len(gone) > 1 else ""
            untold.append(
                f"dropped the snapshot{many} {names}, the oldest: the budget is {self.budget.text}; a pinned one stays"
            )
        return "; ".join(untold)

    def tell_later(self, dropped: str) -> None:
        """See ``Snapshots.tell_later``."""
        self._untold.append(dropped)

    async def _weigh_soon(self) -> None:
        """Measure them when there is time, and not all the time: it walks all of their memory."""
        await asyncio.sleep(WEIGH_SECONDS)
        await self.weigh()

    async def weigh(self) -> None:
        """Measure what each holds now; the budget is kept, and first of all spares go for it."""
        await self._measure()
        if self.memory > self.budget.memory and self.has_spares:
            self.drop_spares()
            await self._measure()
        self.keep_budget()

    def is_past(self, number: int) -> bool:
        """Whether the present state comes from this one, which cannot do to it then what it could not before: others may
        be what a hostile cell has left, and undone."""
        return number in self._pristine or number in {past.number for past in self.tree.ancestors()}

    async def _measure(self) -> None:
        for number, frozen in list(self._frozen.items()):
            try:
                size = await frozen.weigh(ask=self.is_past(number))
            except KernelRuntimeError:
                continue
            if size is not None and number in self.tree.known:
                self.become(self.tree.marked(number, size=size))

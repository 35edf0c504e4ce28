"""The snapshots of one session: taken between cells, kept within a budget, brought back.

The session keeps for each cell the moment before it (as far as that pays), so that a cell which is
killed costs nothing but itself; a person keeps others by name.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.errors import Conflict, KernelRuntimeError
from kernel_runtime.domain.snapshot import Budget, Snapshot, check_name
from kernel_runtime.workers.automatic import Automatic
from kernel_runtime.workers.freezing import Freezing
from kernel_runtime.workers.kept import Kept
from kernel_runtime.workers.pristine import Pristine
from kernel_runtime.workers.restoring import Restoring
from kernel_runtime.workers.seclusion import Seclusion
from kernel_runtime.workers.spares import Spares

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kernel_runtime import wire
    from kernel_runtime.workers.branch import Branch, Pending
    from kernel_runtime.workers.freezing import Live, Order
    from kernel_runtime.workers.frozen import Frozen
    from kernel_runtime.workers.restoration import Restoration

#: How long an end waits for a copy that is just being made.
COMING_SECONDS = 5.0
#: How long a person waits for one: a hook may hang, and nothing else would end that.
TAKE_SECONDS = 30.0
#: How long a kill waits for one: what hangs makes none.
LAST_SECONDS = 2.0


class Snapshots:
    """See the module. ``automatic``: whether there is one before each cell. ``at_gate``: the copy that is
    just being made where a cell waits. ``kept``: the tree, the processes and the budget.
    """

    def __init__(self, live: Live, budget: Budget | None = None, *, automatic: bool = True) -> None:
        budget = (budget or Budget()).check()
        self.kept = Kept(budget)
        self.at_gate: asyncio.Task[None] | None = None
        self._freezing = Freezing(live)
        self._automatic = Automatic(live, self._freezing, self.kept, on=automatic and budget.automatic > 0)
        self._restoring = Restoring(live, self.kept, self._take)
        self._seclusion = Seclusion(live, self._freezing)
        self._turns = live.turns
        self.spares = Spares(live, self._freezing, self.kept)

    # -- what there is ---------------------------------------------------------------------------

    @property
    def budget(self) -> Budget:
        return self.kept.budget

    @property
    def line(self) -> str:
        """The line of state that runs."""
        return self.kept.tree.line

    @property
    def lines(self) -> list[str]:
        """The lines of state that can be switched to, with the one that runs."""
        return self.kept.tree.lines()

    @property
    def base(self) -> int | None:
        """The number of the snapshot that the present state came from last."""
        return self.kept.tree.base

    @property
    def cell(self) -> int:
        """The last cell that the present state contains."""
        return self.kept.tree.cell

    @property
    def before(self) -> int | None:
        """The number of the one that was ordered before the last cell."""
        return self._automatic.last

    async def unkept(self) -> str:
        """Why ``undo`` cannot take back the last cell, when that is known; "" where it can."""
        await self.settled()
        return self.kept.tree.unkept

    def keeps(self, number: int | None) -> bool:
        """Whether the one with this number is there."""
        return number in self.kept.tree.known

    @property
    def undoable(self) -> int:
        """The most cells that can be undone."""
        return self.kept.tree.undoable

    @property
    def redoable(self) -> int:
        """How many undos and restores can be taken back."""
        return len(self.kept.tree.future)

    @property
    def pids(self) -> set[int]:
        """The frozen processes, by their numbers within the session."""
        return self.kept.pids

    def listing(self) -> list[Snapshot]:
        """All of them, oldest first."""
        return self.kept.tree.listing()

    def find(self, name: str | int) -> Snapshot:
        """By name or number; ``NotFound`` says which there are."""
        return self.kept.tree.find(name)

    @asynccontextmanager
    async def frozen(self, *names: str | int | None) -> AsyncIterator[list[tuple[str, Frozen]]]:
        """What each snapshot (None: the present) is called, and a process of it, for a while; ``NotFound`` when that
        is gone. Nothing else runs meanwhile if one is of what was undone: ``Conflict`` while a cell does."""
        async with AsyncExitStack() as stack:
            stack.enter_context(self._turns.beside())
            found = [await stack.enter_async_context(self._frozen(name)) for name in names]
            if not all(name is None or self.kept.is_past(self.find(name).number) for name in names):
                await stack.enter_async_context(self._seclusion.alone())
            yield found

    @asynccontextmanager
    async def _frozen(self, name: str | int | None) -> AsyncIterator[tuple[str, Frozen]]:
        if name is None:
            present = await self.take_aside()
            try:
                yield "now", present
            finally:
                present.drop()
            return
        snapshot = self.find(name)
        source = self.kept.source(snapshot)
        if isinstance(source, Pristine):
            async with source.frozen(self._freezing) as frozen:
                yield snapshot.title, frozen
        else:
            yield snapshot.title, source

    def befores(self) -> dict[int, Snapshot]:
        """By a cell's execution count, the state before it, as far as kept."""
        tree = self.kept.tree
        return {cell: tree.known[number] for cell, number in tree.befores.items()}

    def expendable(self) -> list[Snapshot]:
        """What may be given up when memory is short, in that order; the one before the running cell last."""
        held = self.kept.held
        return [snapshot for snapshot in self.kept.tree.expendable() if snapshot.number in held]

    def on_changed(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener()`` in the loop, soon after anything here has changed: what there is, its
        size, pins, the line, where the session is. Returns what ends that."""
        return self.kept.on_changed(listener)

    # -- keeping them ----------------------------------------------------------------------------

    def drop(self, name: str | int) -> Snapshot:
        """Forget one; its memory comes back. ``Conflict`` while it is pinned for a line that would be gone with it."""
        snapshot = self.find(name)
        self.kept.check_loose(snapshot)
        self.give_up([snapshot])
        return snapshot

    def give_up(self, snapshots: list[Snapshot]) -> None:
        """Forget these: their memory is needed."""
        self.kept.forget(snapshot.number for snapshot in snapshots)

    def pin(self, name: str | int, pinned: bool = True) -> Snapshot:
        """Keep one whatever the budget says, or no longer."""
        number = self.find(name).number
        self.kept.become(self.kept.tree.marked(number, pinned=pinned))
        snapshot = self.kept.tree.known[number]
        self.kept.keep_budget()
        return snapshot

    @property
    def has_spares(self) -> bool:
        """Whether there are copies of them that were made ahead."""
        return self.kept.has_spares

    def drop_spares(self) -> None:
        """Their memory is needed first."""
        self.kept.drop_spares()

    def set_budget(self, budget: Budget) -> None:
        """Another budget; what is beyond it is dropped now."""
        self.kept.budget = budget.check()
        self._automatic.on = budget.automatic > 0
        self.kept.keep_budget()

    async def weigh(self) -> None:
        """Measure what each holds now; the budget is kept."""
        await self.kept.weigh()

    async def keep_present(self, branch: Branch) -> None:
        """It is about to be ended between cells: have its state copied, to come back to, if that can be done soon."""
        present = self.kept.present
        if not self._automatic.on or branch.pristine is not None or present.is_of(branch):
            return
        with contextlib.suppress(KernelRuntimeError, TimeoutError):
            order = self._freezing.order(branch)
            async with asyncio.timeout(LAST_SECONDS):
                await order.made()
            await present.keep(order, branch)

    def clear(self) -> None:
        """The first process is gone, and with it all of them."""
        self.kept.clear()

    def close(self) -> None:
        """Let go of the session, and of what is still to be done for it."""
        self.spares.close()
        self.kept.close()
        for part in (self._freezing, self._automatic, self._restoring, self._seclusion):
            part.close()

    # -- taking ----------------------------------------------------------------------------------

    async def take(
        self, name: str = "", *, pinned: bool = False, refuse: bool = False, automatic: bool = False
    ) -> Snapshot:
        """A snapshot of the session as it is. ``refuse``: ``ExternalStateError`` when it holds
        sockets or child processes, which no copy has. ``UnsafeThreads`` names what runs beside.
        """
        async with self._turns.turn():
            branch = await self._freezing.idle("a snapshot is taken between cells")
            return await self._take(branch, name, pinned=pinned, refuse=refuse, automatic=automatic)

    async def _take(
        self,
        branch: Branch,
        name: str = "",
        *,
        pinned: bool = False,
        refuse: bool = False,
        automatic: bool = False,
    ) -> Snapshot:
        """Of this branch, which is not waited for."""
        if name:
            check_name(name, self.listing())
        draft = self.kept.draft(name=name, pinned=pinned, automatic=automatic)
        if not (pinned or automatic):
            self.kept.check_room(draft)
        order = self._ordered(branch, refuse=refuse)
        async with _in_time():
            return await self.kept.add(draft, order)

    def _ordered(self, branch: Branch, *, refuse: bool = False) -> Order:
        """The copy that was made ahead, if it was; else one that is made now. What is to be refused is seen while it is."""
        ahead = None if refuse else self.kept.present.take(branch)
        return ahead or self._freezing.order(branch, refuse=refuse)

    async def take_at_gate(self, branch: Branch, reached: wire.Gated, cell: int) -> Snapshot:
        """Where the code of ``cell`` has stopped; ``Conflict`` at once when there can be none."""
        draft = self.kept.draft()
        self.kept.check_room(draft)
        order = self._freezing.order(branch, gate=reached.id)
        gate = order.concealed(f"{reached.function}, line {reached.line}")
        return await self.kept.add(msgspec.structs.replace(draft, gate=gate, cell=cell), order)

    async def take_aside(self) -> Frozen:
        """A copy of the present that is no snapshot of the session's; whoever takes it drops it."""
        async with self._turns.turn():
            branch = await self._freezing.idle("its variables are read when it has ended")
            order = self._ordered(branch)
            self.spares.wait()  # the next one is made when this is over
            async with _in_time():
                await order.made()
            order.frozen.title = "the copy of the present state"
            return order.frozen

    # -- before and after each cell --------------------------------------------------------------

    def before_cell(self, branch: Branch, count: int = 0) -> str:
        """Order the automatic one, to be made before the cell whose request is sent next. Returns
        what a person should be told: that there is none, and why (each reason once). ``count``: the
        cell's execution count, if it has one."""
        self._restoring.begins()
        self.kept.become(self.kept.tree.without_future())
        return self._automatic.order(branch, count)

    def before_request(self, branch: Branch) -> None:
        """What is no cell runs next: nothing to be undone, and redo goes where it went. Should it end its process, the
        newest moment comes back: a copy is made aside where no other is as new as the last cell's end."""
        self._restoring.begins()
        self._automatic.order_aside(branch)

    def take_refusal(self) -> str:
        """What kept the last automatic one from being made, if it has not been told."""
        return self._automatic.take_refusal()

    def take_dropped(self) -> str:
        """What was let go that a person had made, and why, if it has not been told."""
        return self.kept.take_dropped()

    def tell_later(self, dropped: str) -> None:
        """What was let go, and why, for ``take_dropped``."""
        self.kept.tell_later(dropped)

    def cell_took(self, seconds: float, count: int) -> None:
        """A cell is over; ``count``: its execution count, 0 where it has none."""
        self._automatic.cost.computed(seconds)
        self.kept.become(self.kept.tree.ran(count))

    def restarted(self) -> None:
        """The session begins anew: what a person kept stays, the automatic ones go."""
        self.kept.drop_spares()
        self.kept.become(self.kept.tree.restarted())

    async def settled(self) -> None:
        """Until what is being made, before a cell or at a gate, is there, or will not come."""
        coming = self._coming()
        if coming:
            await asyncio.wait(coming, timeout=COMING_SECONDS)

    @property
    def is_coming(self) -> bool:
        """Whether one is just being made, before a cell or at a gate."""
        return bool(self._coming())

    def _coming(self) -> list[asyncio.Task[None]]:
        tasks = (self._automatic.coming, self.at_gate)
        return [task for task in tasks if task is not None and not task.done()]

    # -- bringing back ---------------------------------------------------------------------------

    async def restore(self, name: str | int, *, reseed: bool = False) -> Restoration:
        """Go back (or over) to a snapshot; the present state is kept for ``redo`` if it can be.

        ``Conflict`` while a cell runs, ``NotFound`` for one that is unknown or dropped. If it fails, the
        present state goes on. What is asked of the session meanwhile waits, another restore, too.
        """
        return await self._restoring.restore(name, reseed=reseed)

    async def resume(self, snapshot: Snapshot, pending: Pending, edits: dict[str, str]) -> Restoration:
        """Go over to a copy made at a gate: its cell, ``pending``, goes on."""
        return await self._restoring.resume(snapshot, pending, edits)

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[Snapshot]:
        """For a while other states may be visited; afterwards the session is in the present one, with
        what can be undone and redone. Gives the snapshot of it that waits meanwhile."""
        async with self._restoring.aside() as here:
            yield here

    async def visit(self, name: str | int) -> Restoration:
        """Go over to a snapshot, within ``aside``."""
        return await self._restoring.visit(self.find(name))

    async def undo(self, cells: int = 1) -> Restoration:
        """The state before the last ``cells`` cells; what is in between can be had back by ``redo``, unless
        ``unkept`` says why not. ``Conflict`` where there is no snapshot before them: nothing is changed then."""
        return await self._restoring.undo(cells, self.settled)

    async def redo(self) -> Restoration:
        """Take back the last ``undo`` or ``restore``."""
        return await self._restoring.redo()

    async def branch(self, line: str, start: str | int | None = None) -> Restoration | Snapshot:
        """Switch to the line of state ``line``: where it was left, or, if there is none, a new one that
        begins here, and go on to the snapshot ``start``. Returns what was restored, or the snapshot that both lines come from."""
        return await self._restoring.branch(line, start)

    async def recover(self) -> Restoration | None:
        """The live branch ended: bring back the newest moment of this line that comes back; None when
        there is none."""
        await self.settled()
        await self._seclusion.ended()
        return await self._restoring.recover()


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """``Conflict`` when it is not made then."""
    try:
        async with asyncio.timeout(TAKE_SECONDS):
            yield
    except TimeoutError:
        raise Conflict(f"no snapshot: the guest did not make one within {TAKE_SECONDS:.0f} s") from None

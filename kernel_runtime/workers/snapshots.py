"""The snapshots of one session: taken between cells, kept within a budget, brought back.

The session keeps for each cell the moment before it (as far as that pays), so that a cell which is
killed costs nothing but itself; a person keeps others by name.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import (
    Conflict,
    ExternalStateError,
    GuestLost,
    KernelRuntimeError,
    NotFound,
    UnsafeThreads,
)
from kernel_runtime.domain.level import Rung
from kernel_runtime.domain.snapshot import Budget, Snapshot, check_name, find, over_budget, worth_it
from kernel_runtime.workers.branch import Pending
from kernel_runtime.workers.concealing import concealed
from kernel_runtime.workers.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kernel_runtime.domain.disclosed import Disclosed
    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.init import Init

#: How long an end waits for a copy that is just being made.
COMING_SECONDS = 5.0
#: How long a person waits for one: a hook may hang, and nothing else would end that.
TAKE_SECONDS = 30.0
WEIGH_SECONDS = 2.0
#: How fast the cost of a copy that was once expensive is forgotten.
_FORGET = 0.9


class Restoration(msgspec.Struct, frozen=True, kw_only=True):
    """What came back: the snapshot, seconds that it took, what the state does not have any more
    (sockets, child processes) and which open files have changed."""

    snapshot: Snapshot
    seconds: float
    external: list[str] = []
    changed: list[str] = []


class How(msgspec.Struct, frozen=True, kw_only=True):
    """How a snapshot is brought back. ``reseed``: random generators begin anew; ``edits``: local
    variables to be set at its gate; ``resumed``: the cell that goes on there."""

    reseed: bool = False
    edits: dict[str, str] = {}
    resumed: Pending | None = None


AS_IT_WAS = How()


class Live(Protocol):
    """The part of the session's life that snapshots need."""

    used: bool
    disclosed: Disclosed

    @property
    def rung(self) -> Rung: ...
    @property
    def init(self) -> Init | None: ...
    async def ready(self) -> Branch: ...
    def resume(self) -> None: ...
    async def switch(self, frozen: Frozen, how: How) -> Branch: ...


class Snapshots:
    """See the module. ``automatic``: whether there is one before each cell. ``cell`` is the last cell
    that the present state contains, ``before`` the number of the one taken before the last cell.
    """

    def __init__(self, live: Live, budget: Budget | None = None, *, automatic: bool = True) -> None:
        self.budget = (budget or Budget()).check()
        self.automatic = automatic and self.budget.automatic > 0
        self.line = "main"
        self.base: int | None = None
        self.cell = 0
        self.before: int | None = None
        self.on_dropped: Callable[[list[Snapshot]], None] = _tell_nobody
        self._listeners: list[Callable[[], None]] = []
        self._live = live
        self._known: dict[int, Snapshot] = {}
        self._frozen: dict[int, Frozen] = {}
        self._lost: set[str] = set()
        self._heads: dict[str, int] = {}
        self._past: list[int] = []
        self._befores: dict[int, int] = {}
        self._future: list[tuple[int, list[int]]] = []
        self._numbers = itertools.count(1)
        self._orders = itertools.count(1)
        self._coming: asyncio.Task[None] | None = None
        self.at_gate: asyncio.Task[None] | None = None
        self._tending: set[asyncio.Task[None]] = set()
        self._weighing: asyncio.Task[None] | None = None
        self._restoring = False
        self._leaving = False
        self._cost = 0.0
        self._costs: deque[float] = deque(maxlen=3)
        self._computed = 0.0
        self._told: set[str] = set()
        self._refusal = ""

    # -- what there is ---------------------------------------------------------------------------

    def listing(self) -> list[Snapshot]:
        """All of them, oldest first."""
        return [self._known[number] for number in sorted(self._known)]

    def find(self, name: str | int) -> Snapshot:
        """By name or number; ``NotFound`` says which there are."""
        try:
            return find(self.listing(), name)
        except NotFound:
            if str(name) in self._lost:
                raise NotFound(f"the snapshot {str(name)!r} is lost: its process has ended") from None
            raise

    @property
    def undoable(self) -> int:
        """How many cells can be undone."""
        return sum(number in self._known for number in self._past)

    @property
    def redoable(self) -> int:
        """How many undos and restores can be taken back."""
        return len(self._future)

    def on_changed(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener()`` in the loop, soon after anything here has changed: what there is, its
        size, pins, the line, where the session is. Returns what ends that."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def _changed(self) -> None:
        for listener in tuple(self._listeners):
            asyncio.get_running_loop().call_soon(listener)

    @property
    def lines(self) -> list[str]:
        """The lines of state that can be switched to, with the one that runs."""
        return sorted({self.line, *self._heads})

    def drop(self, name: str | int) -> Snapshot:
        """Forget one; its memory comes back."""
        snapshot = self.find(name)
        self._forget([snapshot.number])
        return snapshot

    def give_up(self, snapshots: list[Snapshot]) -> None:
        """Forget these: their memory is needed."""
        self._forget([snapshot.number for snapshot in snapshots])

    def pin(self, name: str | int, pinned: bool = True) -> Snapshot:
        """Keep one whatever the budget says, or no longer."""
        snapshot = self._change(self.find(name).number, pinned=pinned)
        self._keep_budget()
        return snapshot

    def set_budget(self, budget: Budget) -> None:
        """Another budget; what is beyond it is dropped now."""
        self.budget = budget.check()
        self.automatic = budget.automatic > 0
        self._keep_budget()

    def clear(self) -> None:
        """The first process is gone, and with it all of them."""
        if self._weighing is not None:
            self._weighing.cancel()
        self._forget(list(self._known))
        self._heads.clear()
        self.base = None
        self._changed()

    def close(self) -> None:
        """Let go of the session, and of what is still to be done for it."""
        for task in self._tending:
            task.cancel()
        self._weighing = self._coming = None
        self.on_dropped = _tell_nobody
        self._listeners.clear()
        del self._live

    # -- taking ----------------------------------------------------------------------------------

    async def take(
        self, name: str = "", *, pinned: bool = False, refuse: bool = False, automatic: bool = False
    ) -> Snapshot:
        """A snapshot of the session as it is. ``refuse``: ``ExternalStateError`` when it holds
        sockets or child processes, which no copy has. ``UnsafeThreads`` names what runs beside.
        """
        if name:
            check_name(name, self.listing())
        if self.budget.count == 0 and not (pinned or automatic):
            raise Conflict("the budget allows no snapshots (count is 0); pin it, or raise the budget")
        branch = await self._live.ready()
        if branch.executing:
            raise Conflict("a cell is running: a snapshot is taken between cells")
        draft = self._draft(name=name, pinned=pinned, automatic=automatic)
        try:
            async with asyncio.timeout(TAKE_SECONDS):
                return await self._taken(draft, *self._order(branch, refuse=refuse))
        except TimeoutError:
            raise Conflict(f"no snapshot: the guest did not make one within {TAKE_SECONDS:.0f} s") from None

    async def take_at_gate(self, branch: Branch, reached: wire.Gated, cell: int) -> Snapshot:
        """Where the code of ``cell`` has stopped; ``Conflict`` at once when there can be none."""
        if self.budget.count == 0:
            raise Conflict("no copy: the budget for snapshots is 0")
        ordered = self._order(branch, refuse=False, gate=reached.id)
        gate = f"{self._live.disclosed.text(reached.function)}, line {reached.line}"
        draft = msgspec.structs.replace(self._draft(), gate=gate, cell=cell)
        return await self._taken(draft, *ordered)

    async def take_aside(self) -> Frozen:
        """A copy of the present that is no snapshot of the session's; whoever takes it drops it."""
        branch = await self._live.ready()
        if branch.executing:
            raise Conflict("a cell is running: its variables are read when it has ended")
        pending, said, frozen = self._order(branch, refuse=False)
        await self._made(pending, said, frozen)
        return frozen

    def frozen(self, name: str | int) -> tuple[Snapshot, Frozen]:
        """A snapshot with its process; ``NotFound`` when that is gone."""
        snapshot = self.find(name)
        frozen = self._frozen.get(snapshot.number)
        if frozen is None or frozen.gone:
            self._forget([snapshot.number])
            raise NotFound(f"the snapshot {snapshot.title!r} is lost: its process has ended")
        return snapshot, frozen

    def _draft(self, *, name: str = "", pinned: bool = False, automatic: bool = False) -> Snapshot:
        return Snapshot(
            number=next(self._numbers),
            name=name,
            parent=self.base,
            line=self.line,
            cell=self.cell,
            made=time.time(),
            automatic=automatic,
            pinned=pinned,
        )

    def _order(
        self, branch: Branch, *, refuse: bool, gate: str = ""
    ) -> tuple[Pending, list[wire.Froze], Frozen]:
        self._live.resume()
        init = self._live.init
        if init is None or self._live.rung is not Rung.NAMESPACES:
            raise Conflict("snapshots need namespaces, which this host refuses: see `kernel-runtime doctor`")
        self._live.used = True  # a guest with snapshots is not exchanged for a warmer one
        said: list[wire.Froze] = []
        disclosed = self._live.disclosed
        frozen = Frozen(init, disclosed)
        request = wire.Freeze(id=f"freeze-{next(self._orders)}", refuse=refuse, gate=gate)
        pending = Pending(
            request,
            lambda frame: said.append(concealed(frame, disclosed)) if isinstance(frame, wire.Froze) else None,
        )
        try:
            branch.begin(pending, request, [frozen.guest_fd()])
        except BlockingIOError:
            frozen.drop()
            raise Conflict("the guest does not read what it is sent: no snapshot now") from None
        frozen.let_go()
        return pending, said, frozen

    async def _taken(
        self, draft: Snapshot, pending: Pending, said: list[wire.Froze], frozen: Frozen
    ) -> Snapshot:
        await self._made(pending, said, frozen)
        frozen.on_gone = lambda: self._on_gone(draft.number)
        snapshot = msgspec.structs.replace(
            draft, parent=self.base, pause=said[0].pause, external=frozen.external
        )
        self._known[snapshot.number] = snapshot
        self._frozen[snapshot.number] = frozen
        if not snapshot.gate:  # it lies aside: nothing comes after it but what it is resumed to
            self.base = snapshot.number
        self._changed()
        self._keep_budget()
        if self._weighing is None or self._weighing.done():
            self._weighing = self._spawn(self._weigh_soon())
        return snapshot

    async def _made(self, pending: Pending, said: list[wire.Froze], frozen: Frozen) -> None:
        """Until it is there; dropped when it will not be."""
        try:
            verdict = await pending.ended
            if verdict is not None:
                raise GuestLost(verdict)
            _check(said)
            await _first_word(frozen)
        except BaseException:
            frozen.drop()
            raise

    def _on_gone(self, number: int) -> None:
        """Its process ended by itself, or something in the session killed it."""
        snapshot = self._known.get(number)
        if snapshot is not None:
            self._lost |= {snapshot.name, str(number), f"#{number}"} - {""}
            self._forget([number])

    async def _weigh_soon(self) -> None:
        """Measure them when there is time, and not all the time: it walks all of their memory."""
        await asyncio.sleep(WEIGH_SECONDS)
        await self.weigh()

    async def weigh(self) -> None:
        """Measure what each holds now; the budget is kept."""
        for number, frozen in list(self._frozen.items()):
            try:
                weighed = await frozen.weigh()
            except (KernelRuntimeError, TimeoutError):
                continue
            if number in self._known:
                self._change(number, size=weighed.shared_out)
        self._keep_budget()

    def _change(self, number: int, **fields: object) -> Snapshot:
        snapshot = self._known[number] = msgspec.structs.replace(self._known[number], **fields)
        self._changed()
        return snapshot

    # -- before each cell ------------------------------------------------------------------------

    def before_cell(self, branch: Branch, count: int = 0) -> str:
        """Order the automatic one, to be made before the cell whose request is sent next. Returns
        what a person should be told: that there is none, and why (each reason once). ``count``: the
        cell's execution count, if it has one."""
        self._forget([number for number, _ in self._future])
        self.before = None
        if not self.automatic or self._restoring or self._live.rung is not Rung.NAMESPACES:
            return ""
        if self._live.init is not None and self._live.init.meter.is_nearly_full():
            return self._tell("memory is nearly used up: no automatic snapshot before this cell")
        if not worth_it(self.budget, self._cost, self._computed):
            self._cost *= _FORGET
            return self._tell("costs more than it saves at this size", cost=self._cost)
        try:
            ordered = self._order(branch, refuse=False)
        except Conflict:
            return ""
        draft = self._draft(automatic=True)
        self.before = draft.number
        if count:
            self._befores[count] = draft.number
        self._coming = self._spawn(self._automatic(self._coming, draft, *ordered))
        return ""

    async def _automatic(
        self,
        earlier: asyncio.Task[None] | None,
        draft: Snapshot,
        pending: Pending,
        said: list[wire.Froze],
        frozen: Frozen,
    ) -> None:
        """After the ``earlier`` one: its child in the tree."""
        if earlier is not None and not earlier.done():
            await asyncio.wait([earlier])
        try:
            snapshot = await self._taken(draft, pending, said, frozen)
        except KernelRuntimeError as error:
            self._refusal = self._tell(str(error))
            return
        self._costs.append(min(snapshot.pause, said[0].spent))
        self._cost, self._computed = min(self._costs), 0.0  # one slow moment of the host says nothing
        self._past.append(snapshot.number)
        self._changed()
        self._keep_budget()

    def befores(self) -> dict[int, Snapshot]:
        """By a cell's execution count, the state before it, as far as kept."""
        self._befores = {cell: number for cell, number in self._befores.items() if number in self._known}
        return {cell: self._known[number] for cell, number in self._befores.items()}

    def take_refusal(self) -> str:
        """What kept the last automatic one from being made, if it has not been told."""
        refusal, self._refusal = self._refusal, ""
        return refusal

    def _tell(self, reason: str, cost: float | None = None) -> str:
        if reason in self._told:
            return ""
        self._told.add(reason)
        paid = f" ({1000 * cost:.0f} ms)" if cost is not None else ""
        return f"no automatic snapshot before this cell: it {reason}{paid}" if cost else reason

    def cell_took(self, seconds: float, count: int) -> None:
        """A cell is over; ``count``: its execution count, 0 where it has none."""
        self._computed += seconds
        self.cell = count or self.cell
        self._changed()

    def restarted(self) -> None:
        """The session begins anew: what a person kept stays, the automatic ones go."""
        self._forget([snapshot.number for snapshot in self.listing() if snapshot.automatic])
        self.base, self.cell = None, 0
        self._past.clear()
        self._changed()

    # -- bringing back ---------------------------------------------------------------------------

    async def restore(self, name: str | int, *, reseed: bool = False) -> Restoration:
        """Go back (or over) to a snapshot; the present state is kept for ``redo`` if it can be.

        ``Conflict`` while a cell runs or another restore is under way, ``NotFound`` for one that is
        unknown or dropped. If it fails, the present state goes on.
        """
        snapshot = self.find(name)
        if snapshot.gate:
            raise Conflict(
                f"{snapshot.title} was made inside a cell, at a gate: `%gate resume {snapshot.number}` goes on there"
            )
        return await self._leave_for(snapshot, [], How(reseed=reseed))

    async def resume(self, snapshot: Snapshot, pending: Pending, edits: dict[str, str]) -> Restoration:
        """Go over to a copy made at a gate: its cell, ``pending``, goes on."""
        return await self._leave_for(snapshot, [], How(resumed=pending, edits=edits))

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[Snapshot]:
        """For a while other states may be visited; afterwards the session is in the present one, with
        what can be undone and redone. Gives the snapshot of it that waits meanwhile."""
        here = await self.take(pinned=True)
        past, future = list(self._past), list(self._future)
        try:
            yield here
        finally:
            if self.base != here.number:
                await self._switch(here)
            self._past, self._future = past, future
            self._forget([here.number])

    async def visit(self, name: str | int) -> Restoration:
        """Go over to a snapshot, within ``aside``."""
        return await self._switch(self.find(name))

    async def undo(self, cells: int = 1) -> Restoration:
        """The state before the last ``cells`` cells; what is in between can be had back by ``redo``."""
        await self.settled()
        past = [number for number in self._past if number in self._known]
        if cells < 1 or cells > len(past):
            kept = f"the last {len(past)}" if past else "none"
            raise NotFound(
                f"{cells} cells cannot be undone: of the cells before there are {kept} to go back to"
            )
        undone = past[-cells:]
        return await self._leave_for(self._known[undone[0]], undone)

    async def redo(self) -> Restoration:
        """Take back the last ``undo`` or ``restore``."""
        if not self._future:
            raise NotFound("there is nothing to redo: no undo since the last cell")
        number, undone = self._future[-1]
        restoration = await self._switch(self._known[number])
        self._future.pop()
        self._past += undone
        self._changed()
        return restoration

    async def branch(self, line: str) -> Restoration | Snapshot:
        """Switch to the line of state ``line``: where it was left, or, if there is none, a new one that
        begins here. Returns what was restored, or the snapshot that both lines come from."""
        check_name(line)
        if line == self.line:
            raise Conflict(f"{line!r} is the line that runs now")
        head = await self.take(f"{self.line}.head-{next(self._numbers)}", pinned=True)
        previous = self._heads.get(self.line)
        if line in self._heads:
            restoration = await self._switch(self._known[self._heads[line]])
            self._move(line, head, previous)
            return restoration
        self._move(line, head, previous)
        return head

    def _move(self, line: str, head: Snapshot, previous: int | None) -> None:
        self._heads[self.line] = head.number
        self.line = line
        self._past.clear()
        self._forget([number for number, _ in self._future])  # of the line that was left
        if previous is not None:
            self._forget([previous])
        left = self._heads.pop(line, None)
        if left is not None and left in self._known:
            self._change(left, pinned=False, automatic=True)
        self._changed()

    async def _leave_for(self, snapshot: Snapshot, undone: list[int], how: How = AS_IT_WAS) -> Restoration:
        kept: Snapshot | None = None
        branch = await self._live.ready()
        if branch.executing or self._restoring:
            return await self._switch(snapshot, how)  # which refuses, with the reason
        # What is left is one more for a moment: nothing is dropped for it, least of all the aim.
        self._leaving = True
        try:
            if self.budget.automatic:
                with suppress(KernelRuntimeError):  # else it can be left, but not come back to
                    kept = await self.take(automatic=True)
            restoration = await self._switch(snapshot, how)
        finally:
            self._leaving = False
        self._past = [number for number in self._past if number not in undone]
        if kept is not None and kept.number in self._known:
            self._future.append((kept.number, undone))
        self._keep_budget()
        self._changed()
        return restoration

    async def _switch(self, snapshot: Snapshot, how: How = AS_IT_WAS) -> Restoration:
        if self._restoring:
            raise Conflict("another restore is under way")
        self._restoring = True
        self._live.resume()
        begun = time.monotonic()
        try:
            branch = await self._live.ready()
            if branch.executing:
                raise Conflict("a cell is running: interrupt it first, or wait for its end")
            new = await self._thaw(snapshot, how)
        finally:
            self._restoring = False
        return concealed(_restoration(snapshot, new, time.monotonic() - begun), self._live.disclosed)

    async def _thaw(self, snapshot: Snapshot, how: How = AS_IT_WAS) -> Branch:
        frozen = self._frozen.get(snapshot.number)
        if frozen is None:
            raise NotFound(f"there is no snapshot {snapshot.title!r} any more")
        try:
            new = await self._live.switch(frozen, how)
        except (KernelRuntimeError, TimeoutError):
            if not await frozen.goes_on():
                self._forget([snapshot.number])
            raise
        self.base, self.cell = snapshot.parent if snapshot.gate else snapshot.number, snapshot.cell
        self._changed()
        return new

    async def recover(self) -> Restoration | None:
        """The live branch ended: bring back the newest moment of this line that comes back; None when
        there is none."""
        await self.settled()
        begun = time.monotonic()
        for number in self._ancestors():
            snapshot = self._known[number]
            try:
                new = await self._thaw(snapshot)
            except (KernelRuntimeError, TimeoutError):
                continue
            if number in self._past:
                del self._past[self._past.index(number) :]
            return concealed(_restoration(snapshot, new, time.monotonic() - begun), self._live.disclosed)
        return None

    def _ancestors(self) -> list[int]:
        found: list[int] = []
        number = self.base
        while number is not None and number in self._known:
            found.append(number)
            number = self._known[number].parent
        return found

    async def settled(self) -> None:
        """Until what is being made, before a cell or at a gate, is there, or will not come."""
        coming = [task for task in (self._coming, self.at_gate) if task is not None and not task.done()]
        if coming:
            await asyncio.wait(coming, timeout=COMING_SECONDS)

    @property
    def is_coming(self) -> bool:
        """Whether one is just being made, before a cell or at a gate."""
        return any(task is not None and not task.done() for task in (self._coming, self.at_gate))

    # -- keeping within the budget ---------------------------------------------------------------

    def _keep_budget(self) -> None:
        if self._leaving:
            return
        apart = self._apart()
        counted = [snapshot for snapshot in self.listing() if snapshot.number not in apart]
        dropped = over_budget(counted, self.budget, set(self._past[-1:]))
        if dropped:
            self._forget([snapshot.number for snapshot in dropped])
            told = [snapshot for snapshot in dropped if not snapshot.automatic]
            if told:
                self.on_dropped(told)

    def _in_use(self) -> set[int]:
        """The one before the running cell, and those that are apart."""
        return {*self._past[-1:], *self._apart()}

    def _apart(self) -> set[int]:
        """The heads of lines, and what redo goes to: in no count."""
        return {*self._heads.values(), *(number for number, _ in self._future)}

    def expendable(self) -> list[Snapshot]:
        """What may be given up when memory is short, in that order; the one before the running cell last."""
        last = self._past[-1:]
        loose = [s for s in self.listing() if not s.pinned and s.number not in last]
        loose.sort(key=lambda s: (not s.automatic, s.number in self._in_use()))
        return loose + [self._known[number] for number in last if number in self._known]

    @property
    def pids(self) -> set[int]:
        """The frozen processes, by their numbers within the session."""
        return {frozen.pid for frozen in self._frozen.values()}

    def _forget(self, numbers: list[int]) -> None:
        for number in numbers:
            frozen = self._frozen.pop(number, None)
            if frozen is not None:
                frozen.drop()
            gone = self._known.pop(number, None)
            if gone is not None:
                self._bridge(gone)
        self._past = [number for number in self._past if number in self._known]
        self._future = [(number, undone) for number, undone in self._future if number in self._known]
        if numbers:
            self._changed()

    def _bridge(self, gone: Snapshot) -> None:
        """The children of one that is dropped hang on its parent."""
        for number, snapshot in self._known.items():
            if snapshot.parent == gone.number:
                self._known[number] = msgspec.structs.replace(snapshot, parent=gone.parent)
        if self.base == gone.number:
            self.base = gone.parent

    def _spawn(self, coro: object) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coro)  # type: ignore[arg-type]
        self._tending.add(task)
        task.add_done_callback(self._tending.discard)
        return task


def _tell_nobody(_: list[Snapshot]) -> None: ...


async def _first_word(frozen: Frozen) -> None:
    try:
        await frozen.wait()
    except GuestLost as error:
        raise Conflict(f"no snapshot (it needs room for two processes): {error}") from None


def _check(said: list[wire.Froze]) -> None:
    if not said:
        raise Conflict("the guest did not say whether it made a snapshot")
    if said[0].error:
        raise Conflict(f"no snapshot: {said[0].error}")
    if said[0].external:
        raise ExternalStateError(said[0].external)
    if said[0].threads:
        raise UnsafeThreads(said[0].threads)


def _restoration(snapshot: Snapshot, branch: Branch, seconds: float) -> Restoration:
    """From what the branch said of itself: names for people, whatever they are."""
    told = branch.restored
    return Restoration(
        snapshot=snapshot, seconds=seconds, external=_names(told, "external"), changed=_names(told, "changed")
    )


def _names(told: dict[str, object], key: str) -> list[str]:
    found = told.get(key)
    return [str(name)[:200] for name in found[:64]] if isinstance(found, list) else []

"""Cells of a session, and what else is asked of its live branch: run in turn, held to their limits, interrupted, paused."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import Conflict, KernelRuntimeError
from kernel_runtime.domain.level import Rung
from kernel_runtime.domain.verdict import Reason
from kernel_runtime.workers import causes
from kernel_runtime.workers.branch import Branch, Pending, Sink
from kernel_runtime.workers.concealing import Concealing
from kernel_runtime.workers.durable import Durable
from kernel_runtime.workers.idle import Idle
from kernel_runtime.workers.life import Life
from kernel_runtime.workers.limiter import Limiter
from kernel_runtime.workers.stops import Stops

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.ports import CheckpointStore
    from kernel_runtime.sandbox.plan import GuestPlan, ImagePlan
    from kernel_runtime.workers.terms import Terms
    from kernel_runtime.workers.zygote import Zygote


#: Seconds after an interrupt; by default SIGURG is ignored, so it harms no program.
_WAKES = (0.1, 0.5, 2.0)
#: After how long a cell that goes on is said to ignore the interrupt, and how long it may after another one.
_GOES_ON, _AGAIN = 1.0, 1.0


class Cells(Life):
    """``Session`` adds what panels, fronts and guests ask for beside them."""

    def __init__(
        self,
        terms: Terms,
        zygote: Callable[[], Awaitable[Zygote]],
        plan: Callable[[ImagePlan], GuestPlan],
        store: Callable[[bool], CheckpointStore | None] | None = None,
    ) -> None:
        super().__init__(terms, zygote, plan)
        self.durable = Durable(self, store, terms.saving)
        self.stops = Stops(self.snapshots)
        self._limiter = Limiter(
            self.account,
            self._interrupt,
            self._kill_if_running,
            end_floods=terms.flood == "end",
            notices=terms.notices,
        )
        self._cells: list[Pending] = []
        self.idle = Idle(self)

    async def submit(
        self,
        request: wire.Request,
        sink: Sink,
        fds: list[int] | None = None,
        *,
        keep: bool = True,
    ) -> Verdict | None:
        """Run a request in the live branch; its frames go to ``sink``, in the loop, as they come.
        ``fds`` are passed along with it (``BlockingIOError`` when there is no room at the moment).

        Returns None when it is done; a ``Verdict`` when the branch ended before that, or when a
        limit interrupted the cell and it obeyed (``Verdict.survived``). Raises what prevents a
        guest from starting. Several may be in flight; the caller decides their order. ``keep``: have an
        automatic snapshot before it; one that has no count is no cell that undo goes over, and redo stays possible.
        """
        pending = Pending(request, self._concealing(sink))
        async with self._turn(cell=pending.executes) as branch:
            note = ""
            if pending.executes and keep:
                note = self._before(branch, pending)
            branch.begin(pending, request, fds)
        if fds:
            self.used = True  # what they lead to is in this guest
        if not pending.executes:
            verdict = await pending.ended
            await _passed_on(pending)
            return verdict
        self.used = True
        if pending.count:
            _tell(self.take_unseen(), pending)
        return await self._see_through(branch, pending, note)

    def _before(self, branch: Branch, pending: Pending) -> str:
        """A cell is about to run, or what counts as none: a front's query. Returns what a person should be told."""
        if not pending.count:
            self.snapshots.before_request(branch)
            return ""
        note = self.snapshots.before_cell(branch, pending.count)
        pending.before = self.snapshots.before
        return note

    @asynccontextmanager
    async def _turn(self, *, cell: bool = False) -> AsyncIterator[Branch]:
        """One's turn to ask something of the live branch, in which no other state is just brought back."""
        async with self.turns.turn(cell=cell) as turn:
            branch = await self.ready()
            turn.check()
            self.resume()
            yield branch

    async def resume_gate(self, name: str | int, sink: Sink) -> Verdict | None:
        """Go over to a copy made at a gate; the cell that it is in the middle of goes on to its end, as
        if submitted now with ``sink``."""
        pending, note = await self.stops.resume(name, self._concealing(sink))
        return await self._see_through(await self.ready(), pending, note)

    async def _see_through(self, branch: Branch, pending: Pending, note: str) -> Verdict | None:
        """Hold a running cell to its limits until it ends."""
        begun = time.monotonic()
        watch = asyncio.get_running_loop().create_task(self._watch(branch, pending))
        self._cells.append(pending)
        try:
            verdict = await pending.ended
            await _passed_on(pending)
            await self.snapshots.settled()  # a copy that was made at a gate is there for the next one
            if self.init is not None:
                self.init.catch_up()
            verdict = self._with_way_back(pending.explain(verdict), pending)
            if pending.count:
                self._tell_of_states(note, pending)
            return verdict if verdict is None or verdict.survived else await self._with_state(verdict)
        finally:
            self._cells.remove(pending)
            watch.cancel()
            self.idle.wait()
            self.durable.cell_ended()
            if pending.ended.done() and _is_over(pending.ended.result()):
                self.snapshots.cell_took(time.monotonic() - begun, pending.count)

    def _tell_of_states(self, note: str, pending: Pending) -> None:
        """What is not kept, or not any more: whoever wants to be warned of limits elsewhere is told here, too."""
        _tell(note or self.snapshots.take_refusal(), pending)
        trouble, self.durable.trouble = self.durable.trouble, ""
        _tell(trouble, pending)
        _tell(self.snapshots.take_dropped(), pending)

    async def _with_state(self, verdict: Verdict) -> Verdict:
        """The verdict, when the next live branch stands, with the state that it has."""
        try:
            await self.ready()
        except KernelRuntimeError:
            return verdict  # the next cell says why
        return msgspec.structs.replace(verdict, state=self.state)

    def _with_way_back(self, verdict: Verdict | None, pending: Pending) -> Verdict | None:
        """The verdict of a cell that was cut short; files that it has written would stay."""
        if (
            verdict is None
            or not verdict.survived
            or (verdict.raised and verdict.reason is not Reason.MEMORY)
        ):
            return verdict
        return msgspec.structs.replace(verdict, undoable=self.snapshots.keeps(pending.before))

    async def _watch(self, branch: Branch, pending: Pending) -> None:
        if self.init is not None:
            await self._limiter.watch(self.init.meter, branch, pending, self._first.pressure)

    def give_up(self, why: str) -> None:
        """End the live branch; the newest snapshot takes its place."""
        self._kill(causes.broken(why))

    @property
    def executing(self) -> bool:
        """Whether a cell runs."""
        return bool(self._cells)

    def hold_wall(self, held: bool) -> None:
        """Let the wall limit's clock stand still while a person looks at a stopped cell."""
        if self.init is not None:
            self.init.meter.hold_wall(held)

    def _concealing(self, sink: Sink) -> Concealing:
        """The sink, behind what takes out the secrets that this session has opened."""
        return Concealing(self.disclosed, sink, lambda: self._branch)

    # -- paused ----------------------------------------------------------------------------------

    async def pause(self) -> int:
        """Stop every process of the guest and its clocks; returns bytes that the kernel took back.
        A cell that runs stands still, too; copies do, so that what is being read or written to disk is waited for.
        ``resume`` or the next request lets it go on. ``Conflict`` when they take longer than a minute."""
        async with self.turns.turn_alone():  # what is brought back could not answer
            await self.ready()
            init = self.init
            if init is None or self.rung is not Rung.NAMESPACES:
                raise Conflict("a guest without a pid namespace cannot be paused")
            if not self.paused:
                self.paused = True
                self._stopping = init.pause()
                self.hold_wall(True)
                await asyncio.wait([self._stopping])
        return await asyncio.to_thread(init.meter.reclaim)

    def resume(self) -> None:
        """As ``Life`` does. Whatever is asked of the guest comes by here: the time after which it is idle begins anew."""
        super().resume()
        self.idle.wait()

    def interrupt(self) -> None:
        """KeyboardInterrupt in the cell that runs; killed if it goes on for ``terms.grace`` seconds, sooner when it is
        interrupted again. One that waits for its turn does not begin: ``CancelledError``."""
        branch = self._branch
        if branch is None or not branch.executing:
            self.turns.interrupt()
            return
        self.resume()  # one that was paused could not obey
        self._interrupt(branch)
        cell, grace, loop = branch.executing[0], self.terms.grace, asyncio.get_running_loop()
        if cell.ignores:
            loop.call_later(_AGAIN, self._kill_if_running, branch, cell, causes.ignored_interrupts(_AGAIN))
        elif not cell.interrupted:
            cell.interrupted = True
            loop.call_later(grace, self._kill_if_running, branch, cell, causes.ignored_interrupt(grace))
            loop.call_later(_GOES_ON, self._tell_it_goes_on, cell)

    def _tell_it_goes_on(self, cell: Pending) -> None:
        """From now on another interrupt shortens the time that it has: whoever presses twice at once may not mean that."""
        left = self.terms.grace - _GOES_ON
        if cell.ended.done() or left <= _AGAIN:
            return
        cell.ignores = True
        told = f"the cell goes on after the interrupt: it is killed in {left:g} s"
        if self.terms.notices:
            _tell(f"{told}, or {_AGAIN:g} s after another interrupt", cell)

    def _interrupt(self, branch: Branch) -> None:
        """SIGINT, and whom it is for. If it came when Python was just about to wait (for its own lock, then in a
        system call), nobody would look at it before the end of that call: other signals wake it up."""
        for pending in branch.executing[:1]:
            branch.send(wire.Interrupt(id=pending.id))
        self._send_signal(branch, signal.SIGINT)
        for seconds in _WAKES:
            asyncio.get_running_loop().call_later(seconds, self._wake, branch)

    def _wake(self, branch: Branch) -> None:
        if branch is self._branch and branch.executing:
            self._send_signal(branch, signal.SIGURG)


def _tell(note: str, pending: Pending) -> None:
    """A line on the cell's stderr."""
    if note:
        pending.sink(wire.Stream(parent=pending.id, name="stderr", text=f"kernel_runtime: {note}\n"))


async def _passed_on(pending: Pending) -> None:
    """All that came of it has reached whom it is for."""
    if isinstance(pending.sink, Concealing):
        await pending.sink.settled()


def _is_over(verdict: Verdict | None) -> bool:
    """Whether the cell ended, and not its guest."""
    return verdict is None or verdict.survived

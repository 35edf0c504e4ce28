"""A session: one guest's branches, kept for a front. The async core that every front uses.

The front submits requests and gets frames; the session sees to it that there is a live branch
to submit to, that limits are held, and that every end has a verdict.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import Conflict, GuestLost, Invalid, KernelRuntimeError, ProtocolViolation
from kernel_runtime.domain.level import Rung
from kernel_runtime.domain.usage import Usage
from kernel_runtime.domain.verdict import Reason
from kernel_runtime.workers import causes
from kernel_runtime.workers.branch import Branch, Pending, Sink
from kernel_runtime.workers.concealing import Concealing, concealed_value
from kernel_runtime.workers.denials import Denials
from kernel_runtime.workers.differing import difference
from kernel_runtime.workers.durable import Durable
from kernel_runtime.workers.files import Files
from kernel_runtime.workers.life import Life
from kernel_runtime.workers.limiter import Limiter
from kernel_runtime.workers.stops import Stops

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from kernel_runtime.domain.checkpoint import Checkpoint
    from kernel_runtime.domain.difference import Difference
    from kernel_runtime.domain.usage import Nearly
    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.ports import Broker, CheckpointStore
    from kernel_runtime.sandbox.plan import GuestPlan, ImagePlan
    from kernel_runtime.workers.checkpoints import Restored
    from kernel_runtime.workers.terms import Terms
    from kernel_runtime.workers.zygote import Zygote


#: Seconds after an interrupt; by default SIGURG is ignored, so it harms no program.
_WAKES = (0.1, 0.5, 2.0)
#: After how long a cell that goes on is said to ignore the interrupt, and how long it may after another one.
_GOES_ON, _AGAIN = 1.0, 1.0
_FILES = Annotated[list[Annotated[str, msgspec.Meta(max_length=400)]], msgspec.Meta(max_length=64)]


class Session(Life):
    """See the module. Not thread-safe: everything happens in the loop that opened it."""

    def __init__(
        self,
        terms: Terms,
        zygote: Callable[[], Awaitable[Zygote]],
        plan: Callable[[ImagePlan], GuestPlan],
        store: Callable[[bool], CheckpointStore | None] | None = None,
    ) -> None:
        super().__init__(terms, zygote, plan)
        self.durable = Durable(self, store, terms.saving)
        self._limiter = Limiter(
            self.account,
            self._interrupt,
            self._kill_if_running,
            end_floods=terms.flood == "end",
            notices=terms.notices,
        )
        self._cells: list[Pending] = []
        self._idle: asyncio.TimerHandle | None = None
        self._denials = Denials(self.account)
        self.stops = Stops(self.snapshots)
        self.files = Files(self)
        self._make_broker: Callable[[Session], Broker] = _no_broker
        self._broker: Broker | None = None
        self._stray: Sink = _lose

    async def close(self) -> None:
        """As ``Life`` does, and let go of those who were told: nothing of it waits for the collector."""
        if self._closed:
            return
        await super().close()
        self._limiter.close()
        self.snapshots.close()
        self.durable.close()
        self.files.close()
        self._stray = _lose
        broker, self._broker, self._make_broker = self._broker, None, _no_broker
        if broker is not None:
            await broker.close()

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
        automatic snapshot before it.
        """
        pending = Pending(request, self._concealing(sink))
        async with self._turn(cell=pending.executes) as branch:
            note = ""
            if pending.executes and keep:
                note = self.snapshots.before_cell(branch, pending.count)
                pending.before = self.snapshots.before
            branch.begin(pending, request, fds)
        if fds:
            self.used = True  # what they lead to is in this guest
        if not pending.executes:
            verdict = await pending.ended
            await _passed_on(pending)
            return verdict
        self.used = True
        _tell(self.take_unseen(), pending)
        return await self._see_through(branch, pending, note)

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
            self._mention(note or self.snapshots.take_refusal(), pending)
            trouble, self.durable.trouble = self.durable.trouble, ""
            self._mention(trouble, pending)
            self._mention(self.snapshots.take_dropped(), pending)
            return verdict if verdict is None or verdict.survived else await self._with_state(verdict)
        finally:
            self._cells.remove(pending)
            watch.cancel()
            self._pause_when_idle()
            self.durable.cell_ended()
            if pending.ended.done() and _is_over(pending.ended.result()):
                self.snapshots.cell_took(time.monotonic() - begun, pending.count)

    def _mention(self, note: str, pending: Pending) -> None:
        """As ``_tell``, where such lines are wanted."""
        if self.terms.notices:
            _tell(note, pending)

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

    @property
    def stands(self) -> bool:
        """Whether its guest takes requests now, and has not just ended without our having noticed."""
        return self.is_ready and self.init is not None and not self.init.ended

    def hand_over(self, terms: Terms) -> None:
        """A guest that waited is somebody's now: its name and its clock are theirs."""
        self.terms = terms
        self.began = time.time()
        self.account.begin()

    def on_stray(self, sink: Sink) -> None:
        """Where frames go whose request is over (background threads and tasks)."""
        self._stray = self._concealing(sink)

    def _concealing(self, sink: Sink) -> Concealing:
        """The sink, behind what takes out the secrets that this session has opened."""
        return Concealing(self.disclosed, sink, lambda: self._branch)

    def ask_at(self, make: Callable[[Session], Broker]) -> None:
        """Whom its guest may ask for capabilities: made when it first does."""
        self._make_broker = make

    def broker(self) -> Broker:
        """See ``Keeper``: the session's own, for all of its branches."""
        if self._broker is None:
            self._broker = self._make_broker(self)
        return self._broker

    def answer(self, answer: wire.Answer) -> None:
        """Pass on what a person typed."""
        if self._branch is not None:
            self._branch.send(answer)

    async def get(self, name: str, *, as_it_is: bool = False) -> wire.Value:
        """A variable in a safe format. ``GuestCodeError``-like text comes as ``Conflict``, and so does that it holds
        the value of a secret which cannot be taken out. ``as_it_is``: the caller takes them out."""
        value = await self._ask(wire.Get(id=f"get-{os.urandom(6).hex()}", name=name))
        if value is None:
            raise ProtocolViolation("the guest answered without a value")
        if as_it_is or not self.disclosed:
            return value
        try:
            return await asyncio.to_thread(concealed_value, value, self.disclosed)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"value: not valid {value.format}: {error}") from None
        except Conflict as error:
            raise Conflict(f"{name}: {error}") from None

    async def put(self, name: str, value: wire.Value) -> None:
        """Set a variable from a safe format."""
        await self._ask(wire.Put(id=f"put-{os.urandom(6).hex()}", name=name, value=value))

    async def _ask(self, request: wire.Get | wire.Put) -> wire.Value | None:
        self.used = True
        got: list[wire.Got] = []
        pending = Pending(request, lambda frame: got.append(frame) if isinstance(frame, wire.Got) else None)
        async with self._turn() as branch:
            branch.begin(pending, request)
        verdict = await pending.ended
        if verdict is not None:
            raise GuestLost(verdict)
        if not got:
            raise ProtocolViolation("the guest did not answer")
        if got[0].error is not None:
            raise Conflict(self.disclosed.text(got[0].error))
        return got[0].value

    async def offer(self) -> str:
        """What to say to a person who begins anew where a checkpoint is kept."""
        return await self.durable.offer()

    def give_up(self, why: str) -> None:
        """End the live branch; the newest snapshot takes its place."""
        self._kill(causes.broken(why))

    @property
    def executing(self) -> bool:
        """Whether a cell runs."""
        return bool(self._cells)

    def kill(self) -> None:
        """End the live branch now, as the person wants it; the newest snapshot takes its place."""
        self.resume()
        self._kill(causes.by_the_person())

    # -- states ----------------------------------------------------------------------------------

    async def diff(self, a: str | int, b: str | int | None = None) -> Difference:
        """The variables that differ between the snapshots ``a`` and ``b`` (None: the present)."""
        async with self.snapshots.frozen(a, b) as ((old, first), (new, second)):
            return await difference(old, first, new, second)

    async def written_since(self, name: str | int) -> list[str]:
        """The files that the guest has written since a snapshot was made: they stay written."""
        async with self.snapshots.frozen(name) as ((_, frozen),):
            return await frozen.read("files", _FILES)

    async def checkpoint(self, name: str = "") -> Checkpoint:
        """Keep the present state on disk, where it survives this host."""
        return await self.durable.save(name)

    @property
    def checkpoint_titles(self) -> list[str]:
        """What its checkpoints are called, as far as it is known without looking."""
        return self.durable.titles

    async def revive(self, name: str) -> tuple[Checkpoint, Restored]:
        """Bring the variables of a checkpoint back into the present state."""
        return await self.durable.load(name)

    # -- paused ----------------------------------------------------------------------------------

    async def pause(self) -> int:
        """Stop every process of the guest and its clocks; returns bytes that the kernel took back.
        A cell that runs stands still, too. ``resume`` or the next request lets it go on."""
        async with self.turns.turn():  # what is brought back could not answer
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

    def _pause_when_idle(self) -> None:
        """Begin to wait for the time after which an idle session is paused, if it is to be."""
        if self._idle is not None:
            self._idle.cancel()
        if self.terms.idle is not None:
            self._idle = asyncio.get_running_loop().call_later(self.terms.idle, self._pause_if_idle)

    def _pause_if_idle(self) -> None:
        if self.turns.are_taken:
            self._pause_when_idle()  # it is not idle: a state is brought back, or a cell is about to begin
        elif not self._cells and self.is_ready and not self._closed:
            self._pausing = asyncio.get_running_loop().create_task(self.pause())
            self._pausing.add_done_callback(_ignore)

    def interrupt(self) -> None:
        """KeyboardInterrupt in the cell that runs; killed if it goes on for ``terms.grace`` seconds, sooner when it is
        interrupted again. One that waits for its turn does not begin: ``CancelledError``."""
        branch = self._branch
        if branch is None or not branch.executing:
            self.turns.interrupt()
            return
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
        self._mention(f"{told}, or {_AGAIN:g} s after another interrupt", cell)

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

    async def usage(self) -> Usage:
        """What the guest uses now, measured from outside."""
        if self.init is None:
            return Usage(limits=self.limits)
        meter, copies = self.init.meter, self.snapshots.pids
        return meter.usage(copies) if meter.counts_memory else await asyncio.to_thread(meter.usage, copies)

    def hold_wall(self, held: bool) -> None:
        """Let the wall limit's clock stand still while a person looks at a stopped cell."""
        if self.init is not None:
            self.init.meter.hold_wall(held)

    def on_warning(self, sink: Callable[[Nearly], None]) -> None:
        """Who is told when a cell has nearly used up a limit, once per cell and limit."""
        self._limiter.on_warning = sink

    @property
    def denied(self) -> list[str]:
        """The system calls that were denied in this session, each once."""
        return self._denials.calls

    # -- what comes from inside ------------------------------------------------------------------

    def on_denied(self, frame: wire.Denied) -> None:
        """A system call was denied: it goes to the record of the cells that run now."""
        self._denials.record(frame, self._cells)

    def on_stray_frame(self, frame: wire.Said) -> None:
        """A frame of a request that is over."""
        self._stray(frame)

    def on_output(self, branch: Branch, pending: Pending) -> None:
        """A running cell sent output."""
        self._limiter.on_output(branch, pending)

    def on_cut(self, branch: Branch, parent: str) -> None:
        """Messages of this request are being left out."""
        self._limiter.on_cut(branch, branch.pending.get(parent))

    def on_gated(self, branch: Branch, frame: wire.Gated) -> None:
        """A cell has stopped at a gate."""
        self.stops.reached(branch, frame)

    def on_failed(self, pending: Pending) -> Verdict | None:
        """A cell ended in an error: the limit behind it, if there is one."""
        if self.init is None:
            return None
        if pending.limited is not None:
            return self._limiter.on_limited(self.init.meter, pending.limited)
        killed = self._limiter.killed_inside(self.init.meter, pending.kills)
        return killed or self._limiter.stopped_outside(pending.refusals)


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


def _ignore(task: asyncio.Task[int]) -> None:
    """A guest that could not be paused goes on."""
    if not task.cancelled():
        task.exception()


def _no_broker(session: Session) -> Broker:
    raise Conflict("nothing can be asked for here: this session has no broker")


def _lose(_: wire.FromGuest) -> None:
    """A frame that belongs to nobody."""

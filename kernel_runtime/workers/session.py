"""A session: one guest's branches, kept for a front. The async core that every front uses.

The front submits requests and gets frames; the session sees to it that there is a live branch
to submit to, that limits are held, and that every end has a verdict.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Annotated

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import Conflict, GuestLost, Invalid, ProtocolViolation
from kernel_runtime.domain.usage import Usage
from kernel_runtime.workers import causes
from kernel_runtime.workers.branch import Branch, Pending, Sink
from kernel_runtime.workers.cells import Cells
from kernel_runtime.workers.concealing import concealed_value
from kernel_runtime.workers.denials import Denials
from kernel_runtime.workers.differing import difference
from kernel_runtime.workers.files import Files

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.domain.checkpoint import Checkpoint
    from kernel_runtime.domain.difference import Difference
    from kernel_runtime.domain.usage import Nearly
    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.ports import Broker, CheckpointStore
    from kernel_runtime.sandbox.plan import GuestPlan, ImagePlan
    from kernel_runtime.workers.checkpoints import Restored
    from kernel_runtime.workers.terms import Terms
    from kernel_runtime.workers.zygote import Zygote


_FILES = Annotated[list[Annotated[str, msgspec.Meta(max_length=400)]], msgspec.Meta(max_length=64)]

#: A branch that is killed has ended by then, or its first process has.
_END_SECONDS = 10.0


class Session(Cells):
    """See the module. Not thread-safe: everything happens in the loop that opened it."""

    def __init__(
        self,
        terms: Terms,
        zygote: Callable[[], Awaitable[Zygote]],
        plan: Callable[[ImagePlan], GuestPlan],
        store: Callable[[bool], CheckpointStore | None] | None = None,
    ) -> None:
        super().__init__(terms, zygote, plan, store)
        self._denials = Denials(self.account)
        self.files = Files(self)
        self._make_broker: Callable[[Session], Broker] = _no_broker
        self._broker: Broker | None = None
        self._stray: Sink = _lose

    async def close(self) -> None:
        """As ``Life`` does, and let go of those who were told: nothing of it waits for the collector."""
        if self._closed:
            return
        await super().close()
        self.idle.close()
        self._limiter.close()
        self.snapshots.close()
        self.durable.close()
        self.files.close()
        self._stray = _lose
        broker, self._broker, self._make_broker = self._broker, None, _no_broker
        if broker is not None:
            await broker.close()

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

    async def kill(self) -> None:
        """End the live branch now, as the person wants it, and return when it has ended; the newest snapshot takes its
        place. While no cell runs, that is the present state, where it can be copied first."""
        self.resume()
        branch = self._branch
        if branch is None:
            return
        if branch.executing or self.turns.are_taken:
            await self._end(branch)
            return
        async with self.turns.turn():  # what comes meanwhile runs in the next one
            await self.snapshots.keep_present(branch)
            await self._end(branch)

    async def _end(self, branch: Branch) -> None:
        if branch is self._branch:
            self._kill(causes.by_the_person())
        await asyncio.wait([branch.over], timeout=_END_SECONDS)

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

    async def revive(
        self, name: str, *, names: list[str] | None = None, force: bool = False
    ) -> tuple[Checkpoint, Restored]:
        """Bring the variables of a checkpoint (None: all) back into the present state."""
        return await self.durable.load(name, names=names, force=force)

    async def usage(self) -> Usage:
        """What the guest uses now, measured from outside."""
        if self.init is None:
            return Usage(limits=self.limits)
        meter, copies = self.init.meter, self.snapshots.pids
        return meter.usage(copies) if meter.counts_memory else await asyncio.to_thread(meter.usage, copies)

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


def _no_broker(session: Session) -> Broker:
    raise Conflict("nothing can be asked for here: this session has no broker")


def _lose(_: wire.FromGuest) -> None:
    """A frame that belongs to nobody."""

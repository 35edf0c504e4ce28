"""A guest's life: its first process, the live branch, every end with its cause, the next beginning.

User code can do nothing here but end its own branch: then the requests in flight end with the
verdict, and a new live branch is forked from the pristine one before anybody asks.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from kernel_runtime import wire
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.domain.errors import Conflict, GuestLost, LimitExceeded
from kernel_runtime.domain.level import Rung
from kernel_runtime.workers import causes
from kernel_runtime.workers.account import Account
from kernel_runtime.workers.branch import Branch, Keeper, Pending
from kernel_runtime.workers.denials import UNNAMED
from kernel_runtime.workers.first import First
from kernel_runtime.workers.init import Owner
from kernel_runtime.workers.pristine import beginning
from kernel_runtime.workers.restoration import state_after
from kernel_runtime.workers.snapshots import Snapshots
from kernel_runtime.workers.turns import Turns
from kernel_runtime.workers.watch import memory_exceeded, session_over

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Callable

    from kernel_runtime.domain.errors import ProtocolViolation
    from kernel_runtime.domain.level import Level
    from kernel_runtime.domain.limits import Limits
    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.sandbox.plan import GuestPlan, ImagePlan
    from kernel_runtime.workers.egress import Egress
    from kernel_runtime.workers.init import Init
    from kernel_runtime.workers.meter import Meter
    from kernel_runtime.workers.restoration import How, Source
    from kernel_runtime.workers.terms import Terms
    from kernel_runtime.workers.zygote import Zygote

_START_SECONDS = 60.0
_GONE = "its variables are gone, run the cells above again."
_BROUGHT_BACK = "The variables are those of the state that was brought back."
_EXIT_SECONDS = 2.0


class Life(Keeper, Owner):
    """The life alone: ``Session`` adds the requests, and takes what its branches send."""

    def __init__(
        self,
        terms: Terms,
        zygote: Callable[[], Awaitable[Zygote]],
        plan: Callable[[ImagePlan], GuestPlan],
    ) -> None:
        self.terms = terms
        self.info: dict[str, object] = {}
        self.used = False
        self.execution_count = 0
        self.began = time.time()
        self.over: Verdict | None = None
        self.account = Account(terms.limits)
        self._first = First(zygote, plan, self.account)
        self._branch: Branch | None = None
        self._count = 0
        self._starting: asyncio.Task[Branch] | None = None
        self._closed = False
        self._losing = False
        self.paused = False
        self._stopping: asyncio.Future[None] | None = None
        self._ending: asyncio.Future[None] | None = None
        self._unseen: Verdict | None = None
        self.disclosed = Disclosed()
        self.turns = Turns()
        self._switching = asyncio.Lock()
        self.snapshots = Snapshots(self, terms.snapshots, automatic=terms.automatic)
        self.state = ""

    @property
    def init(self) -> Init | None:
        """The guest's first process."""
        return self._first.init

    @property
    def zygote(self) -> Zygote | None:
        """The zygote that this session's guest was forked from, or is just being."""
        return self._first.zygote

    @property
    def pid(self) -> int:
        """The host's pid of the guest's first process; 0 while there is none."""
        return self.init.meter.init_pid if self.init is not None else 0

    @property
    def rung(self) -> Rung:
        """How strong the walls of this guest could be on this host."""
        return self.init.rung if self.init is not None else Rung.NAMESPACES

    @property
    def walls(self) -> list[str]:
        return self._first.walls

    @property
    def missing(self) -> dict[str, str]:
        """The walls that do not stand, and what stands in for them."""
        return self._first.missing

    @property
    def partial(self) -> dict[str, str]:
        """The limits that this host does not hold exactly, and how it holds them."""
        return self._first.partial

    @property
    def standing(self) -> dict[str, object]:
        """Level, rung, the walls that stand and those that do not (with what stands in for them), the limits that are not
        held exactly, and whether denied system calls are named."""
        named = self.init is None or self.init.names_denied
        return {
            "level": str(self.level),
            "rung": str(self.rung),
            "walls": self.walls,
            "missing": self.missing,
            "partial": self.partial,
            "denials": "named" if named else UNNAMED,
        }

    @property
    def limits(self) -> Limits:
        return self.terms.limits

    @property
    def level(self) -> Level:
        return self.terms.level

    @property
    def is_ready(self) -> bool:
        """Whether a live branch takes requests now."""
        return self._branch is not None and self._branch.ready.done()

    @property
    def resting(self) -> Branch | None:
        """The live branch, if it stands and nothing is asked of it."""
        branch = self._branch
        return branch if self.is_ready and branch and not (self.paused or branch.pending) else None

    def attach(self, egress: Egress) -> None:
        """Who serves what the guest's clients ask of the network (``Terms.egress``); closed with the session."""
        self._first.egress = egress

    # -- beginnings ----------------------------------------------------------------------------

    def start(self) -> asyncio.Task[Branch]:
        """Begin to make a live branch, unless one is being made already."""
        if self._closed:
            raise Conflict("the session is closed")
        if self.over is not None:
            raise LimitExceeded(self.over)
        if self._starting is None or self._starting.done():
            self._starting = asyncio.get_running_loop().create_task(self._start())
            self._starting.add_done_callback(self._started)
        return self._starting

    def _started(self, task: asyncio.Task[Branch]) -> None:
        if self._starting is task:
            self._starting = None
        if not task.cancelled():
            task.exception()  # whoever waits for the branch gets it; nobody may wait yet

    async def ready(self) -> Branch:
        """Wait for a live branch. Raises what prevented it; the next call tries again."""
        while True:
            if self._stopping is not None and not self._stopping.done():
                await asyncio.wait([self._stopping])
            branch = self._branch
            # One that is done is none, though its callback is still to come: to await it would not let that run.
            starting = self._starting is not None and not self._starting.done()
            if branch is not None and not branch.link.closed and not starting:
                await self._first.serve_egress()
                return branch
            # Asked again afterwards: it may have been dropped for a warmer one before we are woken.
            await asyncio.shield(self.start())

    async def _start(self) -> Branch:
        try:
            init = self.init
            if init is None or init.closed:
                return await self._fork(await self._first_process())
            if self._ending is not None:
                await self._ending
            return await self._recover() or await self._fork(init)
        except (OSError, TimeoutError) as error:
            raise GuestLost(causes.broken(f"it did not start: {error}")) from error

    async def _recover(self) -> Branch | None:
        """The live branch ended by itself or was killed: its newest moment that comes back, and does not end at once."""
        while self._losing:
            async with self._switching:
                pass  # what was just being brought back when it ended may come all the same
            self._losing = False
            if self.is_ready:
                return self._branch
            restoration = await self.snapshots.recover()
            branch = self._branch
            if restoration is None:
                self.state = f"There was no snapshot to go back to: {_GONE}"
                return None
            if branch is not None:
                before = None if self._unseen else self.snapshots.before
                self.state = state_after(restoration, before)
                if branch.pristine and restoration.snapshot.number != before:
                    self.state = f"Nothing but the beginning could be brought back: {_GONE}"
                return branch
        return None

    async def _first_process(self) -> Init:
        """A first process, behind its walls and in its control groups."""
        guards = (self._guard_memory, self._guard_session)
        return await self._first.begin(self.limits, self, self.snapshots, *guards)

    async def _fork(self, init: Init) -> Branch:
        branch = self._branch = self.next_branch()
        init.fork(branch, beginning(self.terms, init, self.execution_count))
        try:
            said = await asyncio.wait_for(asyncio.shield(branch.ready), _START_SECONDS)
        except TimeoutError:
            self._kill(causes.broken(f"it did not answer for {_START_SECONDS:.0f} s"))
            raise
        except asyncio.CancelledError:
            if branch.cause is None and not branch.ready.cancelled():
                raise
            raise GuestLost(branch.cause or causes.ended("it ended while starting")) from None
        self.info = said | self.standing
        return branch

    def next_branch(self) -> Branch:
        """The host's ends of one that is about to be."""
        self._count += 1
        return Branch(self._count, self)

    async def switch(
        self, source: Source, how: How, leaving: Future[Snapshot | None] | None = None
    ) -> Branch:
        """Make the state of a snapshot the live one. The present one ends when the new one has answered, and
        ``leaving`` is over; raises what prevents it, and then the present one goes on."""
        async with self._switching:
            return await self._switch(source, how, leaving)

    async def _switch(self, source: Source, how: How, leaving: Future[Snapshot | None] | None) -> Branch:
        init, old = self.init, self._branch
        if init is None:
            raise GuestLost(causes.ended("its first process has ended"))
        new = self.next_branch()
        with init.meter.room():  # beside the present one, which may have taken all that it may have
            await source.bring(new, how, leaving)
        init.adopt(new, source.thawed())
        self._branch, self.state = new, _BROUGHT_BACK
        if old is not None:
            old.cause = old.cause or causes.ended("another moment of it was brought back")
        left = leaving.result() if leaving is not None else None
        # What holds nothing that the new one could miss may take its time to go.
        soon = left is not None and not left.external and init.meter.has_plenty()
        await init.end_branches(spare=new, soon=soon)
        init.hold_back()
        if old is not None:
            old.end(old.cause or causes.ended("it ended"))
        if how.resumed is not None:
            new.take_over(how.resumed)
        new.link.send(wire.Go())
        if self._branch is not new:
            if self._ending is not None:
                await self._ending  # or it would end the next one, too
            raise GuestLost(new.cause or causes.ended("it ended when it came back"))
        return new

    async def restart(self) -> None:
        """A new live branch from the pristine one, or from a warmer zygote if there is one by now.

        Every process of the guest ends; what it wrote to its layer stays until it is closed.
        """
        async with self.turns.turn():
            await self._restart()

    async def _restart(self) -> None:
        self.execution_count = 0
        self.used, self._unseen = False, None
        self.snapshots.restarted()
        if self._starting is not None:
            await asyncio.wait([self._starting])
        branch = self._branch
        if branch is not None:
            branch.cause = branch.cause or causes.ended("it was restarted")
        kept = [snapshot for snapshot in self.snapshots.listing() if not snapshot.automatic]
        if await self._first.provide_zygote() is not self.zygote and not kept:
            self._drop_init()
        elif branch is not None:
            self._kill(causes.ended("it was restarted"))
            self._finish(branch, losing=False)
        await self.ready()

    async def renew(self) -> None:
        """Leave an unused guest for one of a warmer zygote, if there is one by now."""
        zygote = await self._first.provide_zygote()
        if not (self.used or self._closed or zygote is self.zygote or self._starting is not None):
            self._drop_init()
            self.start()

    async def close(self) -> None:
        """End the guest and everything that belongs to it."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        self._drop_init()
        await self._first.close()

    def _drop_init(self) -> None:
        branch, self._branch = self._branch, None
        self._ending = None
        self.paused = False
        self.snapshots.clear()
        self._first.drop()
        if branch is not None:
            self.state = f"All of the guest has ended, its snapshots, too: {_GONE}"
            branch.end(branch.cause or causes.ended("the session was closed"))

    def throttle(self, cpus: float | None) -> None:
        """Hold it to so many cores' worth of CPU time from now on, also after a restart; never to more
        than its limit. None: to its limit alone."""
        self._first.throttle(cpus)

    def _note(self, branch: Branch) -> None:
        """It has ended: while no cell runs, nobody hears of it before the next one."""
        if self.used and not branch.executing:
            self._unseen = branch.cause

    def take_unseen(self) -> str:
        """An end while no cell ran, and what it left, if that has not been told."""
        cause, self._unseen = self._unseen, None
        return f"{GuestLost(cause)}, while no cell ran. {self.state or _GONE.capitalize()}" if cause else ""

    def resume(self) -> None:
        """Let a paused guest go on."""
        if self.paused and self.init is not None:
            self.paused = False
            self.init.resume()
            self.init.meter.hold_wall(False)

    # -- ends brought about ----------------------------------------------------------------------

    async def _guard_session(self, meter: Meter) -> None:
        """End the whole session when its time is over; it takes nothing from then on."""
        self.over = await session_over(meter)
        if self._branch is not None:
            self._branch.cause = self._branch.cause or self.over
        self._drop_init()

    async def _guard_memory(self, meter: Meter) -> None:
        """Where the kernel does not hold the memory limit: kill at once, an interrupt frees nothing
        (but dropping snapshots may)."""
        while True:
            verdict = await memory_exceeded(meter)
            pressure, used = self._first.pressure, verdict.used or 0.0
            if pressure is not None and (pressure.relieve(meter.look()) or pressure.spare_the_cell(used)):
                continue
            self._kill(verdict)
            await asyncio.sleep(_EXIT_SECONDS)

    def _kill_if_running(self, branch: Branch, pending: Pending, verdict: Verdict) -> None:
        if not pending.ended.done() and branch is self._branch:
            self._kill(verdict)

    def _kill(self, verdict: Verdict) -> None:
        """End the live branch and all it started; the cause is recorded first."""
        branch, init = self._branch, self.init
        if branch is None:
            return
        branch.cause = branch.cause or verdict
        if init is None:
            return
        if self.snapshots.is_coming:  # or the copy would be ended, too
            self._kills = asyncio.get_running_loop().create_task(self._kill_soon(init, branch))
        else:
            self._end_branches(init)
        asyncio.get_running_loop().call_later(_EXIT_SECONDS, _kill_if_stuck, init, branch)

    async def _kill_soon(self, init: Init, branch: Branch) -> None:
        await asyncio.wait([asyncio.ensure_future(self.snapshots.settled())], timeout=_EXIT_SECONDS / 2)
        if branch is self._branch:
            self._end_branches(init)

    def _end_branches(self, init: Init) -> None:
        self._ending = init.end_branches()

    def _send_signal(self, branch: Branch, number: int) -> None:
        if self.init is not None:
            self.init.signal(branch, number)

    # -- ends that happen -------------------------------------------------------------------------

    def on_exited(self, number: int, status: int) -> None:
        """A branch ended; what the host recorded before, or the kernel counted, explains it."""
        branch = self._branch
        if branch is None or branch.number != number:
            return
        branch.cause = branch.cause or causes.of_exit(status, self.limits, self.init)
        self._finish(branch)

    def on_scratch_full(self, verdict: Verdict) -> None:
        """A full directory on the host outlives a branch: the whole guest ends, and its files go."""
        branch, init = self._branch, self.init
        if branch is not None and init is not None:
            branch.cause = branch.cause or verdict
            self._note(branch)
            self._drop_init()
            self._begin_again()

    def on_init_failed(self, error: str) -> None:
        """Pid 1 is about to end; its own words explain it best."""
        if self._branch is not None:
            self._branch.cause = causes.broken(f"its first process could not go on: {error}")

    def on_init_closed(self, error: ProtocolViolation | None) -> None:
        """Pid 1 is gone, and with it every process of the session."""
        branch, init = self._branch, self.init
        if branch is not None and init is not None:  # its own socket may have closed before this one
            branch.cause = branch.cause or causes.of_loss(init, error)
            self._finish(branch)
        self._drop_init()
        self._begin_again()

    def on_branch_closed(self, branch: Branch, error: ProtocolViolation | None) -> None:
        """Its socket closed. Normally it has exited, and pid 1 is about to say so."""
        if branch is not self._branch:
            branch.ready.cancel()  # it was to be thawed, and the live one goes on
            return
        if error is not None:
            branch.cause = branch.cause or causes.broken(error)
            self._kill(branch.cause)
        asyncio.get_running_loop().call_later(_EXIT_SECONDS, self._closed_but_alive, branch)

    def _closed_but_alive(self, branch: Branch) -> None:
        if branch is self._branch and self.init is not None:
            branch.cause = branch.cause or causes.broken("it closed its connection")
            self._finish(branch)

    def _finish(self, branch: Branch, *, losing: bool = True) -> None:
        """The branch's requests end with its verdict; the next branch is begun, in the state of the
        newest snapshot if the old one was not meant to go."""
        if branch is not self._branch:
            return
        self._branch, self._losing, self.state = None, losing, ""
        if losing:
            self._note(branch)
        self.paused = False
        if self.init is not None and not self.init.closed:
            self._ending = asyncio.get_running_loop().create_task(self._end_what_it_started(self.init))
        branch.end(branch.cause or causes.ended("it ended"))
        self._begin_again()

    async def _end_what_it_started(self, init: Init) -> None:
        await self.snapshots.settled()
        await init.end_branches()

    def _begin_again(self) -> None:
        if not self._closed and self.over is None and self.info:
            self.start()  # unless one is being made: one that ended at once is no longer


def _kill_if_stuck(init: Init, branch: Branch) -> None:
    """Pid 1 was to end the branch, and did not: then it goes itself."""
    if not branch.link.closed:
        init.kill()

"""A guest's life: its first process, the live branch, and after every end (``ends``) the next beginning.

User code can do nothing here but end its own branch: then the requests in flight end with the
verdict, and a new live branch is forked from the pristine one before anybody asks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kernel_runtime import wire
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.domain.errors import Conflict, GuestLost, LimitExceeded
from kernel_runtime.workers import causes
from kernel_runtime.workers.branch import Branch
from kernel_runtime.workers.ends import GONE, Ends
from kernel_runtime.workers.pristine import beginning
from kernel_runtime.workers.restoration import state_after
from kernel_runtime.workers.snapshots import Snapshots
from kernel_runtime.workers.turns import Turns

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Callable

    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.sandbox.plan import GuestPlan, ImagePlan
    from kernel_runtime.workers.init import Init
    from kernel_runtime.workers.restoration import How, Source
    from kernel_runtime.workers.terms import Terms
    from kernel_runtime.workers.zygote import Zygote

_START_SECONDS = 60.0
_BROUGHT_BACK = "The variables are those of the state that was brought back."


class Life(Ends):
    """The life alone: ``Session`` adds the requests, and takes what its branches send."""

    def __init__(
        self,
        terms: Terms,
        zygote: Callable[[], Awaitable[Zygote]],
        plan: Callable[[ImagePlan], GuestPlan],
    ) -> None:
        super().__init__(terms, zygote, plan)
        self._count = 0
        self._stopping: asyncio.Future[None] | None = None
        self.disclosed = Disclosed()
        self.turns = Turns()
        self._switching = asyncio.Lock()
        self.snapshots = Snapshots(self, terms.snapshots, automatic=terms.automatic)

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
                self.state = f"There was no snapshot to go back to: {GONE}"
                return None
            if branch is not None:
                before = None if self._unseen else self.snapshots.before
                self.state = state_after(restoration, before)
                if branch.pristine and restoration.snapshot.number != before:
                    self.state = f"Nothing but the beginning could be brought back: {GONE}"
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

    def throttle(self, cpus: float | None) -> None:
        """Hold it to so many cores' worth of CPU time from now on, also after a restart; never to more
        than its limit. None: to its limit alone."""
        self._first.throttle(cpus)

    def resume(self) -> None:
        """Let a paused guest go on."""
        if self.paused and self.init is not None:
            self.paused = False
            self.init.resume()
            self.init.meter.hold_wall(False)

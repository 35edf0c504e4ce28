"""A session: one guest's branches, kept for a front. The async core that every front uses.

The front submits requests and gets frames; the session sees to it that there is a live branch
to submit to, that limits are held, and that every end has a verdict. User code can do nothing
here but end its own branch: then the requests in flight end with the verdict, and a new live
branch is forked from the pristine one before anybody asks.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import Conflict, GuestLost, ProtocolViolation, ZygoteLost
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.verdict import Reason, Verdict, verdict_of_status
from kernel_runtime.workers.branch import Branch, Pending, Sink
from kernel_runtime.workers.init import Init
from kernel_runtime.workers.meter import Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.sandbox.plan import GuestPlan, ImagePlan
    from kernel_runtime.workers.meter import Meter
    from kernel_runtime.workers.zygote import Zygote

_START_SECONDS = 60.0
_EXIT_SECONDS = 2.0
#: How long a cell may go on after a limit has interrupted it, before it is killed.
LIMIT_GRACE = 1.0


#: What a branch means by its exit status.
_OWN_WORDS = {
    wire.LOST_STATUS: Verdict(
        reason=Reason.PROTOCOL, evidence="it lost its connection to the host (its descriptors were closed)"
    ),
    wire.DAMAGED_STATUS: Verdict(reason=Reason.EXIT, evidence="what ran in it had damaged its Python"),
}


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a session is opened with. ``grace``: seconds a cell may ignore an interrupt."""

    level: Level
    limits: Limits
    workdir: str | None
    cwd: str
    env: dict[str, str]
    arguments: list[str] = []
    name: str = ""
    grace: float = 10.0


class Session:
    """See the module. Not thread-safe: everything happens in the loop that opened it."""

    def __init__(
        self,
        terms: Terms,
        zygote: Callable[[], Awaitable[Zygote]],
        plan: Callable[[ImagePlan], GuestPlan],
    ) -> None:
        self.terms = terms
        self.info: dict[str, object] = {}
        self.walls: list[str] = []
        self.missing: dict[str, str] = {}
        self.used = False
        self.execution_count = 0
        self.began = time.time()
        self._provide_zygote = zygote
        self._plan = plan
        self._init: Init | None = None
        self._guard: asyncio.Task[None] | None = None
        self._branch: Branch | None = None
        self._count = 0
        self._starting: asyncio.Task[Branch] | None = None
        self._stray: Sink = lambda _: None
        self._closed = False

    @property
    def zygote(self) -> Zygote | None:
        """The zygote that this session's guest was forked from."""
        return self._init.zygote if self._init is not None else None

    @property
    def pid(self) -> int:
        """The host's pid of the guest's first process; 0 while there is none."""
        return self._init.meter.init_pid if self._init is not None else 0

    # -- life ----------------------------------------------------------------------------------

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

    def start(self) -> asyncio.Task[Branch]:
        """Begin to make a live branch, unless one is being made already."""
        if self._closed:
            raise Conflict("the session is closed")
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
            self._starting.add_done_callback(self._started)
        return self._starting

    def _started(self, task: asyncio.Task[Branch]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # whoever waits for the branch gets it; nobody may wait yet

    async def ready(self) -> Branch:
        """Wait for a live branch. Raises what prevented it; the next call tries again."""
        branch = self._branch
        if branch is not None and not branch.link.closed and self._starting is None:
            return branch
        return await asyncio.shield(self.start())

    async def _start(self) -> Branch:
        try:
            init = self._init
            if init is None or init.closed:
                init = await self._spawn()
            return await self._fork(init)
        except (OSError, TimeoutError) as error:
            raise GuestLost(Verdict(reason=Reason.PROTOCOL, evidence=f"it did not start: {error}")) from error

    async def _spawn(self) -> Init:
        """A first process, behind its walls and in its control groups."""
        zygote = await self._provide_zygote()
        init = Init(zygote, self.limits, self)
        await init.spawn(self._plan(zygote.image))
        self._init = init
        self.walls, self.missing = init.walls, init.missing
        self._guard = asyncio.get_running_loop().create_task(self._guard_memory(init.meter))
        return init

    async def _fork(self, init: Init) -> Branch:
        self._count += 1
        branch = self._branch = Branch(self._count, self._on_stray_frame, self._on_branch_closed)
        begin = wire.Begin(
            branch=branch.number,
            cwd=self.terms.cwd,
            env=self.terms.env,
            limits=self.limits,
            level=self.level,
            execution_count=self.execution_count,
            arguments=self.terms.arguments,
        )
        init.fork(branch, begin)
        try:
            self.info = await asyncio.wait_for(asyncio.shield(branch.ready), _START_SECONDS)
        except TimeoutError:
            evidence = f"it did not answer for {_START_SECONDS:.0f} s"
            self._kill(Verdict(reason=Reason.PROTOCOL, evidence=evidence))
            raise
        except asyncio.CancelledError:
            if branch.cause is None and not branch.ready.cancelled():
                raise
            unknown = Verdict(reason=Reason.EXIT, evidence="it ended while starting")
            raise GuestLost(branch.cause or unknown) from None
        return branch

    async def restart(self) -> None:
        """A new live branch from the pristine one, or from a warmer zygote if there is one by now.

        Every process of the guest ends; what it wrote to its layer stays until it is closed.
        """
        self.execution_count = 0
        self.used = False
        if self._starting is not None:
            await asyncio.wait([self._starting])
        branch = self._branch
        if branch is not None:
            branch.cause = branch.cause or Verdict(reason=Reason.EXIT, evidence="it was restarted")
        if await self._provide_zygote() is not self.zygote:
            self._drop_init()
        elif branch is not None:
            self._kill(Verdict(reason=Reason.EXIT, evidence="it was restarted"))
            self._finish(branch)
        await self.ready()

    async def renew(self) -> None:
        """Leave an unused guest for one of a warmer zygote, if there is one by now."""
        zygote = await self._provide_zygote()
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

    def _drop_init(self) -> None:
        branch, self._branch = self._branch, None
        init, self._init = self._init, None
        if init is not None:
            init.close()
        if branch is not None:
            branch.end(branch.cause or Verdict(reason=Reason.EXIT, evidence="the session was closed"))
        if self._guard is not None:
            self._guard.cancel()
            self._guard = None

    # -- requests ------------------------------------------------------------------------------

    async def submit(self, request: wire.Request, sink: Sink, fds: list[int] | None = None) -> Verdict | None:
        """Run a request in the live branch; its frames go to ``sink``, in the loop, as they come.
        ``fds`` are passed along with it (``BlockingIOError`` when there is no room at the moment).

        Returns None when it is done; a ``Verdict`` when the branch ended before that, or when a
        limit interrupted the cell and it obeyed (``Verdict.survived``). Raises what prevents a
        guest from starting. Several may be in flight; the caller decides their order.
        """
        branch = await self.ready()
        pending = Pending(request, sink)
        branch.begin(pending, request, fds)
        if fds:
            self.used = True  # what they lead to is in this guest
        if not pending.executes:
            return await pending.ended
        self.used = True
        watch = asyncio.get_running_loop().create_task(self._watch(branch, pending))
        try:
            return await pending.ended
        finally:
            watch.cancel()

    def on_stray(self, sink: Sink) -> None:
        """Where frames go whose request is over (background threads and tasks)."""
        self._stray = sink

    def answer(self, answer: wire.Answer) -> None:
        """Pass on what a person typed."""
        if self._branch is not None:
            self._branch.send(answer)

    async def get(self, name: str) -> wire.Value:
        """A variable in a safe format. ``GuestCodeError``-like text comes as ``Conflict``."""
        value = await self._ask(wire.Get(id=f"get-{os.urandom(6).hex()}", name=name))
        if value is None:
            raise ProtocolViolation("the guest answered without a value")
        return value

    async def put(self, name: str, value: wire.Value) -> None:
        """Set a variable from a safe format."""
        await self._ask(wire.Put(id=f"put-{os.urandom(6).hex()}", name=name, value=value))

    async def _ask(self, request: wire.Get | wire.Put) -> wire.Value | None:
        branch = await self.ready()
        self.used = True
        got: list[wire.Got] = []
        pending = Pending(request, lambda frame: got.append(frame) if isinstance(frame, wire.Got) else None)
        branch.begin(pending, request)
        verdict = await pending.ended
        if verdict is not None:
            raise GuestLost(verdict)
        if not got:
            raise ProtocolViolation("the guest did not answer")
        if got[0].error is not None:
            raise Conflict(got[0].error)
        return got[0].value

    def interrupt(self) -> None:
        """KeyboardInterrupt in the cell that runs; killed if it goes on for ``terms.grace`` seconds."""
        branch = self._branch
        if branch is None or not branch.executing:
            return
        self._send_signal(branch, signal.SIGINT)
        verdict = Verdict(
            reason=Reason.SIGNAL,
            limit=self.terms.grace,
            evidence=f"it ignored the interrupt for {self.terms.grace:g} s and was killed",
        )
        asyncio.get_running_loop().call_later(
            self.terms.grace, self._kill_if_running, branch, branch.executing[0], verdict
        )

    async def usage(self) -> Usage:
        """What the guest uses now, measured from outside."""
        return self._init.meter.usage() if self._init is not None else Usage()

    def hold_wall(self, held: bool) -> None:
        """Let the wall limit's clock stand still while a person looks at a stopped cell."""
        if self._init is not None:
            self._init.meter.hold_wall(held)

    # -- limits --------------------------------------------------------------------------------

    async def _watch(self, branch: Branch, pending: Pending) -> None:
        """Hold the limits of one cell: interrupt first, kill what goes on."""
        if self._init is None:
            return
        verdict = await self._init.meter.cell_exceeded(self.limits)
        pending.cause = msgspec.structs.replace(verdict, survived=True)
        self._send_signal(branch, signal.SIGINT)
        await asyncio.sleep(LIMIT_GRACE)
        pending.cause = None
        self._kill_if_running(branch, pending, verdict)

    async def _guard_memory(self, meter: Meter) -> None:
        """Where the kernel does not hold the memory limit: kill at once, an interrupt frees nothing."""
        while True:
            self._kill(await meter.memory_exceeded(self.limits))
            await asyncio.sleep(_EXIT_SECONDS)

    def _kill_if_running(self, branch: Branch, pending: Pending, verdict: Verdict) -> None:
        if not pending.ended.done() and branch is self._branch:
            self._kill(verdict)

    def _kill(self, verdict: Verdict) -> None:
        """End the live branch and all it started; the cause is recorded first."""
        branch, init = self._branch, self._init
        if branch is None:
            return
        branch.cause = branch.cause or verdict
        if init is not None:
            init.end_branches()
            asyncio.get_running_loop().call_later(_EXIT_SECONDS, _kill_if_stuck, init, branch)

    def _send_signal(self, branch: Branch, number: int) -> None:
        if self._init is not None:
            self._init.signal(branch, number)

    # -- what comes from inside ------------------------------------------------------------------

    def on_exited(self, number: int, status: int) -> None:
        """A branch ended; what the host recorded before, or the kernel counted, explains it."""
        branch = self._branch
        if branch is None or branch.number != number:
            return
        if branch.cause is None and self._init is not None:
            branch.cause = self._init.meter.out_of_memory(self.limits)
        branch.cause = branch.cause or _OWN_WORDS.get(status) or verdict_of_status(status)
        self._finish(branch)

    def on_init_failed(self, error: str) -> None:
        """Pid 1 is about to end; its own words explain it best."""
        if self._branch is not None:
            evidence = f"its first process could not go on: {error}"
            self._branch.cause = Verdict(reason=Reason.PROTOCOL, evidence=evidence)

    def on_init_closed(self, error: ProtocolViolation | None) -> None:
        """Pid 1 is gone, and with it every process of the session."""
        branch, init = self._branch, self._init
        if branch is not None and init is not None:  # its own socket may have closed before this one
            branch.cause = branch.cause or self._cause_of_loss(init, error)
            self._finish(branch)
        self._drop_init()
        self._begin_again()

    def _cause_of_loss(self, init: Init, error: ProtocolViolation | None) -> Verdict:
        if error is not None:
            return Verdict(reason=Reason.PROTOCOL, evidence=str(error))
        if (verdict := init.meter.out_of_memory(self.limits)) is not None:
            return verdict
        if not init.zygote.alive:
            lost = init.zygote.lost or ZygoteLost("the zygote ended")
            return Verdict(reason=Reason.SIGNAL, evidence=str(lost))
        return Verdict(reason=Reason.SIGNAL, evidence="its first process was killed")

    def _on_branch_closed(self, branch: Branch, error: ProtocolViolation | None) -> None:
        """Its socket closed. Normally it has exited, and pid 1 is about to say so."""
        if error is not None:
            branch.cause = branch.cause or Verdict(reason=Reason.PROTOCOL, evidence=str(error))
            self._kill(branch.cause)
        asyncio.get_running_loop().call_later(_EXIT_SECONDS, self._closed_but_alive, branch)

    def _closed_but_alive(self, branch: Branch) -> None:
        if branch is self._branch and self._init is not None:
            evidence = "it closed its connection"
            branch.cause = branch.cause or Verdict(reason=Reason.PROTOCOL, evidence=evidence)
            self._init.end_branches()
            self._finish(branch)

    def _finish(self, branch: Branch) -> None:
        """The branch's requests end with its verdict; the next branch is begun."""
        if branch is not self._branch:
            return
        self._branch = None
        branch.end(branch.cause or Verdict(reason=Reason.EXIT, evidence="it ended"))
        self._begin_again()

    def _begin_again(self) -> None:
        if not self._closed and self._starting is None and self.info:
            self.start()

    def _on_stray_frame(self, frame: wire.FromBranch) -> None:
        self._stray(frame)


def _kill_if_stuck(init: Init, branch: Branch) -> None:
    """Pid 1 was to end the branch, and did not: then it goes itself."""
    if not branch.link.closed:
        init.kill()

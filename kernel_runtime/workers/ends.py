"""What there is of a guest, and its ends: those brought about and those that happen, each with its first cause."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import GuestLost
from kernel_runtime.domain.level import Rung
from kernel_runtime.workers import causes
from kernel_runtime.workers.account import Account
from kernel_runtime.workers.branch import Branch, Keeper, Pending
from kernel_runtime.workers.denials import UNNAMED
from kernel_runtime.workers.first import First
from kernel_runtime.workers.init import Owner
from kernel_runtime.workers.watch import memory_exceeded, session_over

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.domain.errors import ProtocolViolation
    from kernel_runtime.domain.level import Level
    from kernel_runtime.domain.limits import Limits
    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.sandbox.plan import GuestPlan, ImagePlan
    from kernel_runtime.workers.egress import Egress
    from kernel_runtime.workers.init import Init
    from kernel_runtime.workers.meter import Meter
    from kernel_runtime.workers.snapshots import Snapshots
    from kernel_runtime.workers.terms import Terms
    from kernel_runtime.workers.zygote import Zygote

GONE = "its variables are gone, run the cells above again."
_EXIT_SECONDS = 2.0
#: A copy that is being made may be half of a sum; how long it may take to be known.
_TWICE, _KNOWN_SECONDS = 2.0, 0.5


class Ends(Keeper, Owner):
    """``Life`` adds the beginnings."""

    snapshots: Snapshots

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
        self._starting: asyncio.Task[Branch] | None = None
        self._closed = False
        self._losing = False
        self.paused = False
        self._ending: asyncio.Future[None] | None = None
        self._unseen: Verdict | None = None
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

    def start(self) -> asyncio.Task[Branch]:
        """Begin to make a live branch, unless one is being made already."""
        raise NotImplementedError

    def _drop_init(self) -> None:
        branch, self._branch = self._branch, None
        self._ending = None
        self.paused = False
        self.snapshots.clear()
        self._first.drop()
        if branch is not None:
            self.state = f"All of the guest has ended, its snapshots, too: {GONE}"
            branch.end(branch.cause or causes.ended("the session was closed"))

    def _note(self, branch: Branch) -> None:
        """It has ended: while no cell runs, nobody hears of it before the next one."""
        if self.used and not branch.executing:
            self._unseen = branch.cause

    def take_unseen(self) -> str:
        """An end while no cell ran, and what it left, if that has not been told."""
        cause, self._unseen = self._unseen, None
        return f"{GuestLost(cause)}, while no cell ran. {self.state or GONE.capitalize()}" if cause else ""

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
        waited = False
        while True:
            verdict = await memory_exceeded(meter)
            pressure, used = self._first.pressure, verdict.used or 0.0
            if pressure is not None and (pressure.relieve(meter.look()) or pressure.spare_the_cell(used)):
                waited = False
            elif self.snapshots.is_coming and not waited and used < _TWICE * (verdict.limit or 0.0):
                waited = True  # once: a guest may never make it
                await self._settled_within(_KNOWN_SECONDS)
            else:
                waited = False
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

    async def _settled_within(self, seconds: float) -> None:
        await asyncio.wait([asyncio.ensure_future(self.snapshots.settled())], timeout=seconds)

    async def _kill_soon(self, init: Init, branch: Branch) -> None:
        await self._settled_within(_EXIT_SECONDS / 2)
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

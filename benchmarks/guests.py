"""Guests under measurement: a zygote driven directly, without a front, moment by moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, TypeVar

import msgspec

from benchmarks.processes import pid_of
from kernel_runtime import wire
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.snapshot import Budget
from kernel_runtime.runtime import PRELOAD, default_settings, guest_environment
from kernel_runtime.sandbox.plan import GuestPlan, plan_guest
from kernel_runtime.workers.account import Account
from kernel_runtime.workers.branch import Branch, Pending
from kernel_runtime.workers.launch import Launch
from kernel_runtime.workers.link import Link
from kernel_runtime.workers.meter import Meter, room_for_copies
from kernel_runtime.workers.session import Session
from kernel_runtime.workers.terms import Terms
from kernel_runtime.workers.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence
    from typing import Any

    from kernel_runtime.ports import CheckpointStore

T = TypeVar("T")
_LIMITS = Limits()


class Stand:
    """A zygote in an event loop of its own."""

    def __init__(self, preload: Sequence[str] = PRELOAD) -> None:
        self._runner = asyncio.Runner()
        self.workdir = default_settings().workdir
        begun = time.perf_counter()
        launch = Launch(list(preload), self.workdir)
        self.zygote = self.wait(self._boot(launch))
        self.boot_seconds = time.perf_counter() - begun

    async def _boot(self, launch: Launch) -> Zygote:
        zygote = Zygote(launch)
        await zygote.booted()
        return zygote

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def plan(self, *without: str, limits: Limits = _LIMITS) -> GuestPlan:
        """All walls of the default level but ``without``."""
        return plan_guest(
            self.zygote.image, Level.MODERATE, limits, arch=os.uname().machine, without=frozenset(without),
            copies=room_for_copies(Budget()),
        )  # fmt: skip

    def session(
        self, *, automatic: bool = True, limits: Limits = _LIMITS, store: CheckpointStore | None = None
    ) -> Session:
        """A session as the runtime makes them, of this zygote; what its snapshots take is bounded by its
        memory alone. ``store``: for its checkpoints. To be made within the loop."""
        workdir = self.workdir
        env = guest_environment(self.zygote.image.home)
        terms = Terms(
            level=Level.MODERATE,
            limits=limits,
            snapshots=Budget(memory=limits.memory or 0),
            workdir=workdir,
            cwd=workdir or "/",
            env=env,
            automatic=automatic,
        )
        return Session(terms, self._provide, lambda _: self.plan(limits=limits), lambda _: store)

    async def _provide(self) -> Zygote:
        return self.zygote

    def close(self) -> None:
        self.wait(self._end())
        self._runner.close()

    async def _end(self) -> None:
        self.zygote.close()


@contextlib.contextmanager
def stand(preload: Sequence[str] = PRELOAD) -> Iterator[Stand]:
    made = Stand(preload)
    try:
        yield made
    finally:
        made.close()


class Alone:
    """Whom a branch's output concerns when nobody keeps it: no limit ends it, nothing is watched."""

    def __init__(self) -> None:
        self.account = Account(_LIMITS)

    def on_branch_closed(self, *_: object) -> None: ...
    def on_stray_frame(self, *_: object) -> None: ...
    def on_output(self, *_: object) -> None: ...
    def on_cut(self, *_: object) -> None: ...
    def on_failed(self, *_: object) -> None: ...


class Guest:
    """One guest, step by step; ``moments`` says when each step was over (``begun`` first)."""

    def __init__(self, stand: Stand, plan: GuestPlan) -> None:
        self._stand = stand
        self._plan = plan
        loop = asyncio.get_running_loop()
        self._born: asyncio.Future[None] = loop.create_future()
        self._forked: asyncio.Future[None] = loop.create_future()
        self.moments: dict[str, float] = {"begun": time.perf_counter()}
        self._meter = Meter(_LIMITS) if "cgroup" in plan.walls else None
        self._mark("metered")

    async def be_born(self) -> None:
        """Spawned by the zygote, all walls entered."""
        host, guest = socket.socketpair()
        self.control = Link(host, wire.decode_from_init, self._on_frame, self._on_closed, takes_fds=True)
        joins = self._meter.join_fds() if self._meter else []
        with guest:
            self.pidfd = await self._stand.zygote.spawn(self._plan, [guest.fileno(), *joins])
        self._mark("spawned")
        if self._meter:
            self._meter.started(self.pidfd)
        await asyncio.wait_for(self._born, 10)
        self._mark("born")

    async def fork(self) -> None:
        """A live branch, ready for cells."""
        branch = self.branch = Branch(1, Alone())
        begin = wire.Begin(
            branch=1,
            cwd=self._stand.workdir or "/",
            env=guest_environment(self._stand.zygote.image.home),
            limits=_LIMITS,
            level=Level.MODERATE,
        )
        self._mark("asked")
        self.control.send(wire.Fork(branch=1, begin=wire.pack(begin)[4:]), branch.guest_fds())
        branch.let_go()
        await asyncio.wait_for(self._forked, 10)
        self._mark("forked")
        await asyncio.wait_for(asyncio.shield(branch.ready), 10)
        self._mark("ready")

    async def run(self, code: str) -> str:
        """Run a cell; what it printed or its result as text."""
        request = execute_request(code)
        frames: list[wire.FromBranch] = []
        pending = Pending(request, frames.append)
        self.branch.begin(pending, request)
        await asyncio.wait_for(pending.ended, 60)
        self._mark("result")
        return "".join(map(text_of, frames))

    @property
    def pid(self) -> int:
        return pid_of(self.pidfd)

    def end_branches(self) -> None:
        """Kill all but its first process, as a limit does."""
        if self._meter:
            self._meter.release_cpu(True)
            self._meter.hurry(True)
        self.control.send(wire.End())

    def end(self) -> None:
        """Kill it and all below it."""
        if self._meter:
            self._meter.hurry(True)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.close(self.pidfd)
        self.control.close()
        if hasattr(self, "branch"):
            self.branch.close()
        if self._meter:
            self._meter.close()

    def since(self, later: str, earlier: str = "begun") -> float:
        """Seconds between two moments."""
        return self.moments[later] - self.moments[earlier]

    @staticmethod
    def now() -> float:
        """The clock of ``moments``."""
        return time.perf_counter()

    def _mark(self, name: str) -> None:
        self.moments[name] = self.now()

    def _on_frame(self, frame: wire.FromInit) -> None:
        if isinstance(frame, wire.Born):
            self._born.set_result(None)
        elif isinstance(frame, wire.Failed):
            self._fail(RuntimeError(f"{frame.wall}: {frame.error}"))
        elif isinstance(frame, wire.Forked):
            while self.control.fds:
                os.close(self.control.fds.popleft())
            self._forked.set_result(None)

    def _on_closed(self, error: Exception | None) -> None:
        self._fail(error or RuntimeError("the guest ended while starting"))

    def _fail(self, error: Exception) -> None:
        for waiting in (self._born, self._forked):
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # it may never be awaited


def execute_request(code: str, number: int = 1) -> wire.Request:
    """As a front sends it."""
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {},
               "allow_stdin": False, "stop_on_error": True}  # fmt: skip
    return wire.Request(
        id=f"run-{time.perf_counter_ns()}",
        kind="execute_request",
        content=msgspec.json.encode(content),
        count=number,
    )


def text_of(frame: wire.FromBranch) -> str:
    """The text of a stream, a plain result, or an error's name."""
    if isinstance(frame, wire.Stream):
        return frame.text
    if isinstance(frame, wire.Publish) and frame.kind in ("execute_result", "error"):
        content = msgspec.json.decode(frame.content)
        if frame.kind == "error":
            raise RuntimeError(f"{content['ename']}: {content['evalue']}")
        return str(content["data"]["text/plain"])
    return ""


async def run(session: Session, code: str) -> str:
    """Run a cell in a session; its text."""
    frames: list[wire.FromBranch] = []
    await session.submit(execute_request(code), frames.append)
    return "".join(map(text_of, frames))

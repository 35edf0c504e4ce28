"""One live branch as the host sees it: its link, its pipes, and the requests it works on."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.amounts import MESSAGE_OVERHEAD
from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.domain.verdict import Reason
from kernel_runtime.workers.calls import Calls
from kernel_runtime.workers.flow import Flow, haste
from kernel_runtime.workers.link import Link, Pipe

if TYPE_CHECKING:
    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.ports import Broker
    from kernel_runtime.workers.account import Account

Sink = Callable[["wire.FromGuest"], None]
#: What a live branch is asked for, and answers by id.
Ordered = wire.Request | wire.Get | wire.Put | wire.Freeze | wire.Revive | wire.Hide
#: Different denied calls that are told of one cell.
MAX_DENIED = 64
#: Ends that a denied call may be the reason of.
_ABNORMAL = frozenset({Reason.SECCOMP, Reason.SIGNAL, Reason.EXIT})


class Pending:
    """A request on its way: where its frames go, and the future that ends with it.

    ``cause`` is recorded before the host interrupts or kills because of a limit; ``limited`` is
    what the guest said of a limit that its code met as an exception, ``kills`` the host's count of
    out-of-memory kills when it began, ``refusals`` that of pieces the network did not carry; ``before``: the number of the snapshot
    before it; ``ignores``: it goes on though it was ``interrupted``.
    """

    def __init__(self, request: Ordered, sink: Sink) -> None:
        self.id = request.id
        self.kind = request.kind if isinstance(request, wire.Request) else ""
        self.count = request.count if isinstance(request, wire.Request) else 0
        self.sink = sink
        self.ended: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
        self.cause: Verdict | None = None
        self.limited: wire.Limited | None = None
        self.kills = 0
        self.refusals = 0
        self.before: int | None = None
        self.warned = False
        self.interrupted = False
        self.ignores = False
        self.failed = False
        self.replied = False
        self.denied: list[str] = []

    def deny(self, frame: wire.Denied) -> None:
        """A system call was denied while it ran; each is told once."""
        if frame.call not in self.denied and len(self.denied) < MAX_DENIED:
            self.denied.append(frame.call)
            self.sink(frame)

    def explain(self, verdict: Verdict | None) -> Verdict | None:
        """The verdict, with the denied calls as evidence where they may be the reason."""
        if verdict is None or verdict.reason not in _ABNORMAL or not self.denied:
            return verdict
        evidence = f"{verdict.evidence}; denied: {', '.join(self.denied)}"
        return msgspec.structs.replace(verdict, evidence=evidence)

    @property
    def executes(self) -> bool:
        return self.kind == "execute_request"

    def end(self, verdict: Verdict | None) -> None:
        if not self.ended.done():
            self.ended.set_result(verdict)


class Keeper(Protocol):
    """Whom a branch's output and its end concern: the session."""

    account: Account

    def on_branch_closed(self, branch: Branch, error: ProtocolViolation | None) -> None:
        """Its socket closed, or it broke the protocol."""

    def broker(self) -> Broker:
        """What decides and performs its calls; ``KernelRuntimeError`` where there is none."""

    def on_stray_frame(self, frame: wire.Said) -> None:
        """A frame of a request that is over."""

    def on_output(self, branch: Branch, pending: Pending) -> None:
        """A running cell sent output."""

    def on_cut(self, branch: Branch, parent: str) -> None:
        """Messages of this request are being left out."""

    def on_failed(self, pending: Pending) -> Verdict | None:
        """The verdict for a limit behind the error of a cell that goes no further."""

    def on_gated(self, branch: Branch, frame: wire.Gated) -> None:
        """A cell has stopped at a gate, and waits for an order."""


class Branch:
    """The host's ends of one live branch. ``cause``: why the host is about to end it. ``pristine``: how pid 1 began
    it, for as long as nothing else has been sent to it."""

    def __init__(self, number: int, keeper: Keeper) -> None:
        self.number = number
        self.pid = 0
        self.token = ""
        self.restored: dict[str, object] = {}
        self.cause: Verdict | None = None
        self.pristine: wire.Begin | None = None
        self.ready: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        #: Done when it has ended.
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pending: dict[str, Pending] = {}
        self._last_execution = ""
        self._drained = 0
        self._holds = 0
        #: How much has been asked of it: while that does not grow, nothing from here changes its state.
        self.asked = 0
        self._keeper = keeper
        self._flow = Flow(keeper.account, self._deliver, lambda p: keeper.on_cut(self, p), self._fail)
        host, self._guest_socket = socket.socketpair()
        out, self._guest_out = os.pipe2(os.O_CLOEXEC)
        err, self._guest_err = os.pipe2(os.O_CLOEXEC)
        self.link = Link(
            host,
            wire.decode_from_branch,
            self._on_frame,
            lambda error: keeper.on_branch_closed(self, error),
            rate=haste(keeper.account.limits.messages),
        )
        self.calls = Calls(self.link, lambda: keeper.broker())
        self._pipes = [
            Pipe(out, lambda text: self._on_text("stdout", text)),
            Pipe(err, lambda text: self._on_text("stderr", text)),
        ]

    def guest_fds(self) -> list[int]:
        """The guest's ends, to be passed once; ``let_go`` closes them here."""
        return [self._guest_socket.fileno(), self._guest_out, self._guest_err]

    def let_go(self) -> None:
        self._guest_socket.close()
        os.close(self._guest_out)
        os.close(self._guest_err)

    def send(self, frame: wire.Frame, fds: list[int] | None = None) -> None:
        self.asked += 1
        self.pristine = None
        self.link.send(frame, fds)

    def begin(self, pending: Pending, request: Ordered, fds: list[int] | None = None) -> None:
        self.send(request, fds)
        self.take_over(pending)

    def take_over(self, pending: Pending) -> None:
        """A request that it works on already."""
        self.pending[pending.id] = pending
        if pending.executes:
            self._last_execution = pending.id

    @property
    def executing(self) -> list[Pending]:
        """The cells it runs now (one, but for top-level await)."""
        return [pending for pending in self.pending.values() if pending.executes]

    def _on_frame(self, frame: wire.FromBranch) -> None:
        if isinstance(frame, wire.Call):
            self.calls.begin(frame)
            return
        if isinstance(frame, wire.Ready):
            if self.ready.done():
                raise ProtocolViolation("the branch said twice that it is ready")
            wire.check_json(frame.info)
            self._introduce(frame, _info(frame.info))
            return
        if isinstance(frame, wire.Withdraw):
            self.calls.withdraw(frame.id)
            return
        if not isinstance(frame, wire.Stream):
            self._drain_before()
        pending = self.pending.get(frame.parent)
        if isinstance(frame, wire.Stream | wire.Publish) and not _is_first_error(frame, pending):
            self._count(frame, pending)
        elif isinstance(frame, wire.Limited):
            if pending is not None:
                pending.limited = frame
        elif isinstance(frame, wire.Done):
            self._done(frame.parent)
        elif isinstance(frame, wire.Gated):
            self._keeper.on_gated(self, frame)
        else:
            self._pass(frame, pending)

    def _introduce(self, frame: wire.Ready, info: dict[str, object]) -> None:
        self.pid, self.token = frame.pid, frame.token
        restored = info.pop("restored", None)
        self.restored = restored if isinstance(restored, dict) else {}
        self.ready.set_result(info)

    def _count(self, frame: wire.Stream | wire.Publish, pending: Pending | None) -> None:
        """Output: it counts against the cell's limit and waits its turn in a flood."""
        self._flow.take(frame, _size(frame))
        if pending is not None:
            self._keeper.on_output(self, pending)

    def _pass(
        self,
        frame: wire.Stream | wire.Publish | wire.Ask | wire.Reply | wire.Got | wire.Froze,
        pending: Pending | None,
    ) -> None:
        """What is never left out: the output before it comes first, once for each request."""
        if pending is not None and not (isinstance(frame, wire.Reply) and pending.replied):
            if not isinstance(frame, wire.Ask):
                self._flow.settle(frame.parent)
            pending.replied = pending.replied or isinstance(frame, wire.Reply)
            pending.failed = pending.failed or isinstance(frame, wire.Publish)
        self._deliver(frame)
        if isinstance(frame, wire.Got | wire.Froze):
            self._done(frame.parent)

    def _deliver(self, frame: wire.Said) -> None:
        pending = self.pending.get(frame.parent) if not isinstance(frame, wire.Ready) else None
        (pending.sink if pending else self._keeper.on_stray_frame)(frame)

    def hold(self) -> None:
        """Nothing more is taken from it until ``go_on``: who gets its output is behind. Several may be."""
        self._holds += 1
        self.link.hold()
        for pipe in self._pipes:
            pipe.hold()

    def go_on(self) -> None:
        self._holds -= 1
        self.link.go_on()
        for pipe in self._pipes if not self._holds else ():
            pipe.go_on()

    def _fail(self, error: ProtocolViolation) -> None:
        """A frame that had waited turned out to be none."""
        self.link.fail(error)

    def _done(self, parent: str) -> None:
        pending = self.pending.get(parent)
        if pending is None:
            return
        if pending.executes and not pending.replied:  # its shell is damaged: it must not run another cell
            raise ProtocolViolation("it said that the cell is done, but sent no reply")
        self._flow.settle(parent)
        del self.pending[parent]
        met = self._keeper.on_failed(pending) if pending.failed and pending.executes else None
        pending.end(pending.cause or met)

    def _on_text(self, name: str, text: str) -> None:
        """What came through a file descriptor belongs to the cell that runs, or ran last."""
        parent = next(iter(self.executing)).id if self.executing else self._last_execution
        self._count(wire.Stream(parent=parent, name=name, text=text), self.pending.get(parent))

    def _drain_before(self) -> None:
        """Hand over what was written before the frame at hand. Once for all frames that were read
        together: a guest that floods the pipes as well must not hold the host for each of them.
        """
        if self._drained != self.link.chunks:
            self._drained = self.link.chunks
            self._drain_pipes()

    def _drain_pipes(self) -> None:
        for pipe in self._pipes:
            pipe.drain()

    def end(self, verdict: Verdict) -> None:
        """The branch is gone: hand over its last words, then end every request with the verdict."""
        self.link.drain()
        self._drain_pipes()
        for parent in list(self.pending):
            self._flow.settle(parent)
        self.close()
        for pending in list(self.pending.values()):
            cause = pending.cause and msgspec.structs.replace(pending.cause, survived=False)
            pending.end(cause or verdict)
        self.pending.clear()
        if not self.ready.done():
            self.ready.cancel()
        if not self.over.done():
            self.over.set_result(None)

    def close(self) -> None:
        self.calls.close()
        self._flow.close()
        self.link.close()
        for pipe in self._pipes:
            pipe.close()


def _is_first_error(frame: wire.Stream | wire.Publish, pending: Pending | None) -> bool:
    """The error that ends a cell is shown whatever was sent before it."""
    if not isinstance(frame, wire.Publish) or frame.kind != "error":
        return False
    return pending is not None and not pending.failed


def _size(frame: wire.Stream | wire.Publish) -> int:
    """Bytes that a message takes of the output limit."""
    if isinstance(frame, wire.Stream):
        return len(frame.text)
    return MESSAGE_OVERHEAD + len(frame.content) + sum(map(len, frame.buffers))


def _info(data: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(data, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolViolation(f"the branch's first words are no JSON object: {error}") from None

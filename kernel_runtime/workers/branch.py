"""One live branch as the host sees it: its link, its pipes, and the requests it works on."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime import wire
from kernel_runtime.workers.link import Link, Pipe

if TYPE_CHECKING:
    from kernel_runtime.domain.errors import ProtocolViolation
    from kernel_runtime.domain.verdict import Verdict

Sink = Callable[["wire.FromBranch"], None]


class Pending:
    """A request on its way: where its frames go, and the future that ends with it.

    ``cause`` is recorded before the host interrupts or kills because of a limit.
    """

    def __init__(self, request: wire.Request | wire.Get | wire.Put, sink: Sink) -> None:
        self.id = request.id
        self.kind = request.kind if isinstance(request, wire.Request) else ""
        self.sink = sink
        self.ended: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
        self.cause: Verdict | None = None

    @property
    def executes(self) -> bool:
        return self.kind == "execute_request"

    def end(self, verdict: Verdict | None) -> None:
        if not self.ended.done():
            self.ended.set_result(verdict)


class Branch:
    """The host's ends of one live branch. ``cause``: why the host is about to end it."""

    def __init__(
        self,
        number: int,
        on_stray: Sink,
        on_closed: Callable[[Branch, ProtocolViolation | None], None],
    ) -> None:
        self.number = number
        self.pid = 0
        self.cause: Verdict | None = None
        self.ready: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self.pending: dict[str, Pending] = {}
        self._last_execution = ""
        self._drained = 0
        self._on_stray = on_stray
        host, self._guest_socket = socket.socketpair()
        out, self._guest_out = os.pipe2(os.O_CLOEXEC)
        err, self._guest_err = os.pipe2(os.O_CLOEXEC)
        self.link = Link(host, wire.decode_from_branch, self._on_frame, lambda error: on_closed(self, error))
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

    def send(self, frame: wire.Frame) -> None:
        self.link.send(frame)

    def begin(
        self, pending: Pending, request: wire.Request | wire.Get | wire.Put, fds: list[int] | None = None
    ) -> None:
        self.link.send(request, fds)
        self.pending[pending.id] = pending
        if pending.executes:
            self._last_execution = pending.id

    @property
    def executing(self) -> list[Pending]:
        """The cells it runs now (one, but for top-level await)."""
        return [pending for pending in self.pending.values() if pending.executes]

    def _on_frame(self, frame: wire.FromBranch) -> None:
        if isinstance(frame, wire.Ready):
            wire.check_json(frame.info)
            if not self.ready.done():
                self.ready.set_result(_info(frame.info))
            return
        if not isinstance(frame, wire.Stream):
            self._drain_before()
        pending = self.pending.get(frame.parent)
        if isinstance(frame, wire.Done):
            self._done(frame.parent)
        elif pending is None:
            self._on_stray(frame)
        else:
            pending.sink(frame)
            if isinstance(frame, wire.Got):
                self._done(frame.parent)

    def _done(self, parent: str) -> None:
        pending = self.pending.pop(parent, None)
        if pending is not None:
            pending.end(pending.cause)

    def _on_text(self, name: str, text: str) -> None:
        """What came through a file descriptor belongs to the cell that runs, or ran last."""
        parent = next(iter(self.executing)).id if self.executing else self._last_execution
        frame = wire.Stream(parent=parent, name=name, text=text)
        pending = self.pending.get(parent)
        (pending.sink if pending else self._on_stray)(frame)

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
        self.close()
        for pending in list(self.pending.values()):
            pending.end(pending.cause or verdict)
        self.pending.clear()
        if not self.ready.done():
            self.ready.cancel()

    def close(self) -> None:
        self.link.close()
        for pipe in self._pipes:
            pipe.close()


def _info(data: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(data, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError) as error:
        from kernel_runtime.domain.errors import ProtocolViolation

        raise ProtocolViolation(f"the branch's first words are no JSON object: {error}") from None

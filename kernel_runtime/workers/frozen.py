"""A frozen branch as the host sees it: its socket, its pid, and what may be asked of it.

It is stopped by pid 1 while nothing is asked, whatever its memory says it is: what a hostile cell
has made of it computes nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import Conflict, GuestLost, ProtocolViolation
from kernel_runtime.domain.verdict import Reason, Verdict
from kernel_runtime.workers.link import Link

if TYPE_CHECKING:
    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.init import Init

ANSWER_SECONDS = 30.0
Shape = TypeVar("Shape")
#: Frames a second that a frozen branch may send: it answers, and says nothing by itself.
_RATE = 1000.0


class Frozen:
    """The host's end. ``ready`` is done when it waits at its socket (again), or has an exception."""

    def __init__(self, init: Init) -> None:
        self.pid = 0
        self.external: list[str] = []
        self._init = init
        self._lock = asyncio.Lock()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer: asyncio.Future[wire.Weighed | wire.Told] | None = None
        host, self._guest_socket = socket.socketpair()
        self._link = Link(host, wire.decode_from_frozen, self._on_frame, self._on_closed, rate=_RATE)

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._link.closed

    def guest_fd(self) -> int:
        """The guest's end, to be passed once; ``let_go`` closes it here."""
        return self._guest_socket.fileno()

    def let_go(self) -> None:
        self._guest_socket.close()

    async def wait(self) -> None:
        """Until it waits at its socket; ``GuestLost`` when it never will."""
        async with asyncio.timeout(ANSWER_SECONDS):
            await asyncio.shield(self.ready)

    async def weigh(self) -> wire.Weighed:
        """What it holds, by its own measure."""
        weighed = await self._answered(wire.Weigh())
        if not isinstance(weighed, wire.Weighed):
            raise ProtocolViolation("a frozen branch answered what was not asked")
        return weighed

    async def read(self, what: str, shape: type[Shape], arguments: object = None) -> Shape:
        """What it tells of its state, as ``shape``; ``Conflict`` when it cannot be read."""
        told = await self._answered(wire.Read(what=what, arguments=msgspec.json.encode(arguments)))
        if not isinstance(told, wire.Told):
            raise ProtocolViolation("a frozen branch answered what was not asked")
        if told.error:
            raise Conflict(f"the snapshot could not be read: {told.error}")
        wire.check_json(told.data)
        try:
            return msgspec.json.decode(told.data, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolViolation(f"a frozen branch told what it was not asked: {error}") from None

    async def _answered(self, order: wire.Weigh | wire.Read) -> wire.Weighed | wire.Told:
        async with self._lock:
            await self.wait()
            answer = self._answer = asyncio.get_running_loop().create_future()
            self._ask(order)
            try:
                return await asyncio.wait_for(answer, ANSWER_SECONDS)
            finally:
                self._answer = None
                self._rest()

    async def thaw(self, branch: Branch, *, reseed: bool = False, edits: dict[str, str] | None = None) -> str:
        """Have it become the live branch ``branch``, leaving a frozen copy; returns the token that
        the branch's ``Ready`` must repeat."""
        async with self._lock:
            await self.wait()
            token = secrets.token_hex(16)
            self.ready = asyncio.get_running_loop().create_future()
            order = wire.Thaw(branch=branch.number, token=token, reseed=reseed, edits=edits or {})
            self._ask(order, branch.guest_fds())
            branch.let_go()
            return token

    async def write(self, sock: socket.socket) -> None:
        """Have it fork a writer of a checkpoint, which serves ``sock``."""
        async with self._lock:
            await self.wait()
            self._ask(wire.Write(), [sock.fileno()])

    def drop(self) -> None:
        """End it. One that has not said its pid yet sees its socket close."""
        self._guest_socket.close()
        if self.pid:
            self._init.drop(self.pid)
        if not self._link.closed:
            self._link.close()
            self._fail(GuestLost(Verdict(reason=Reason.EXIT, evidence="the snapshot was dropped")))

    def _ask(self, frame: wire.Frame, fds: list[int] | None = None) -> None:
        self._link.send(frame, fds)
        self._init.wake(self.pid)

    def _rest(self) -> None:
        if self.pid and not self.gone:
            self._init.rest(self.pid)

    def _on_frame(self, frame: wire.FromFrozen) -> None:
        if isinstance(frame, wire.Frozen):
            if self.ready.done():
                raise ProtocolViolation("a frozen branch said twice that it waits")
            self.pid, self.external = frame.pid, frame.external
            self._rest()
            self.ready.set_result(None)
        elif self._answer is not None and not self._answer.done():
            self._answer.set_result(frame)
        else:
            raise ProtocolViolation("a frozen branch answered what was not asked")

    def _on_closed(self, error: ProtocolViolation | None) -> None:
        evidence = str(error or "its process ended")
        self._fail(GuestLost(Verdict(reason=Reason.PROTOCOL, evidence=f"the snapshot is lost: {evidence}")))

    def _fail(self, error: GuestLost) -> None:
        for waiting in (self.ready, self._answer):
            if waiting is not None and not waiting.done():
                _set_exception(waiting, error)
        if self.ready.done() and not self.ready.exception():
            self.ready = asyncio.get_running_loop().create_future()
            _set_exception(self.ready, error)


def _set_exception(future: asyncio.Future[Any], error: Exception) -> None:
    future.set_exception(error)
    future.exception()  # whoever waits for it gets it; nobody may

"""What code inside asks of the host: calls with their answers, from any thread, waited for or awaited.

A call waits in the thread that makes it, or in the loop that awaits it. Whoever comes first reads what has arrived, for
all of them: the cell's loop, a waiting thread, a loop of the script's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire
from kernel_runtime.domain import packed
from kernel_runtime.domain.errors import TOLD, Conflict, KernelRuntimeError
from kernel_runtime.guest.connection import ANSWER_POLL
from kernel_runtime.sdk.door import ELSEWHERE

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.guest.connection import Connection
    from kernel_runtime.guest.interrupts import Interrupts
    from kernel_runtime.guest.stdio import Console

#: Errors of the host's that come out as what they are; others as their root.
_KINDS = {kind.__name__: kind for kind in TOLD}
#: Milliseconds.
_FIRST_LOOK = 1


class Waiting:
    """One call on its way: ``tell`` wakes who waits for its answer."""

    def __init__(self, tell: Callable[[], None] = lambda: None) -> None:
        self.tell = tell
        self.number = 0
        self.sent = False
        self.frame: wire.Called | None = None
        self.descriptor: int | None = None
        self.broken = ""

    def over(self) -> bool:
        return self.frame is not None or bool(self.broken)

    def result(self) -> tuple[Any, int | None]:
        """The value, with its descriptor; or the error that the host answered."""
        frame = self.frame
        if frame is None:
            raise Conflict(self.broken)
        if frame.error:
            raise _KINDS.get(frame.error, KernelRuntimeError)(frame.text)
        if frame.descriptor and self.descriptor is None:
            raise Conflict("what the host sent along did not arrive: no descriptor is free, close some")
        descriptor, self.descriptor = self.descriptor, None
        return packed.unpack_answer(frame.value), descriptor

    def drop(self) -> None:
        """Nobody takes its descriptor any more."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


class Asking:
    """The calls of this process, each in the name of the request that it belongs to."""

    def __init__(self, connection: Connection, console: Console, interrupts: Interrupts) -> None:
        self._connection = connection
        self._console = console
        self._interrupts = interrupts
        self._lock = threading.RLock()
        self._sending = False
        self._number = 0
        self._waiting: dict[int, Waiting] = {}
        self._loops: dict[Any, int] = {}
        connection.on_called, connection.on_renewed = self._called, self.renew

    def call(self, capability: str, action: str, arguments: dict[str, Any]) -> tuple[Any, int | None]:
        """Ask, and wait here for the answer; Ctrl-C withdraws it."""
        data = self._packed(arguments)
        waiting = Waiting()
        try:
            self._send(waiting, capability, action, data)
            self._connection.wait_for(waiting.over, _first_look())
            return waiting.result()
        finally:
            self._forget(waiting)

    async def acall(self, capability: str, action: str, arguments: dict[str, Any]) -> tuple[Any, int | None]:
        """Ask, and await the answer; cancelling withdraws it."""
        data = self._packed(arguments)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        waiting = Waiting(lambda: _wake(loop, future))
        self._listen(loop)
        try:
            self._send(waiting, capability, action, data)
            await future
            return waiting.result()
        finally:
            self._forget(waiting)
            self._stop_listening(loop)

    def renew(self) -> None:
        """In a thawed copy: what was on its way is the original's, and never answered here."""
        self._lock = threading.RLock()
        waiting, self._waiting = list(self._waiting.values()), {}
        for one in waiting:
            one.broken = "it was on its way when this state was kept: make the call again"
            one.tell()

    def _packed(self, arguments: dict[str, Any]) -> bytes:
        if self._connection.silent:
            raise Conflict(f"this is a copy of the guest's process, or a child of it: {ELSEWHERE}")
        return packed.pack(arguments)

    def _send(self, waiting: Waiting, capability: str, action: str, data: bytes) -> None:
        """Numbers are taken in the order in which the frames leave, whatever interrupts this."""
        self._console.flush()  # what was printed is there before the person is asked
        with self._interrupts, self._lock:
            if self._sending:  # by a destructor or a signal's handler, in the middle of another one
                raise Conflict("a call cannot be made from within another one")
            self._sending = True
            try:
                number = waiting.number = self._number = self._number + 1
                self._waiting[number] = waiting
                parent = self._console.parent
                self._connection.send(
                    wire.Call(id=number, capability=capability, action=action, arguments=data, parent=parent)
                )
                waiting.sent = True
            finally:
                self._sending = False

    def _forget(self, waiting: Waiting) -> None:
        self._waiting.pop(waiting.number, None)
        if waiting.sent and not waiting.over():
            self._connection.send(wire.Withdraw(id=waiting.number))
        waiting.drop()

    def _called(self, frame: wire.Called, descriptor: int | None) -> None:
        """An answer has been read; for one that was withdrawn nobody waits."""
        waiting = self._waiting.get(frame.id)
        if waiting is None:
            if descriptor is not None:
                os.close(descriptor)
            return
        waiting.descriptor = descriptor
        waiting.frame = frame
        waiting.tell()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """The cell's loop reads anyway; another one reads while something in it awaits an answer."""
        if loop is self._connection.loop:
            return
        self._loops[loop] = self._loops.get(loop, 0) + 1
        if self._loops[loop] == 1:
            loop.add_reader(self._connection.fileno(), self._connection.take_in)

    def _stop_listening(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop not in self._loops:
            return
        self._loops[loop] -= 1
        if not self._loops[loop]:
            del self._loops[loop]
            loop.remove_reader(self._connection.fileno())


def _first_look() -> int:
    """Milliseconds after which a thread first looks for an answer that another thread may have read."""
    return _FIRST_LOOK if threading.active_count() > 1 else ANSWER_POLL


def _wake(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    def tell() -> None:
        if not future.done():
            future.set_result(None)

    with contextlib.suppress(RuntimeError):  # that loop is closed: nobody awaits anything in it
        loop.call_soon_threadsafe(tell)

"""The Debug Adapter Protocol with a guest's pydevd: frames, requests, events; all it says is hostile.

Source: https://microsoft.github.io/debug-adapter-protocol/ (a ``Content-Length`` header, then
JSON). A message is bounded in size and depth before it is decoded, events also in rate.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.wire import check_json

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

MAX_MESSAGE = 16 * MIB
MAX_HEADER = 256
#: Events a second that are passed on; a guest that has more to tell waits.
EVENTS = 200
_LENGTH = re.compile(rb"Content-Length: (\d{1,9})\r\n\r\n")


class Incoming(msgspec.Struct, frozen=True):
    """A response or an event, as far as it is looked at."""

    type: str
    event: str = ""
    request_seq: int = 0
    success: bool = False
    message: str | None = None
    body: Any = None

    def get(self, name: str) -> Any:
        """A member of the body; None when there is none."""
        return self.body.get(name) if isinstance(self.body, dict) else None


_incoming = msgspec.json.Decoder(Incoming)


def read(data: bytes) -> Incoming:
    """A message's bytes, checked; ``ProtocolViolation`` for anything else."""
    try:
        check_json(data)
        return _incoming.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolViolation(f"no DAP message: {error}") from None


class Dap:
    """One connection. ``on_event`` gets each event in order, ``on_closed`` is called once."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_event: Callable[[Incoming], None],
        on_closed: Callable[[Dap], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_event = on_event
        self._on_closed = on_closed
        self._seq = 0
        self._waiting: dict[int, asyncio.Future[Incoming]] = {}
        self._window, self._events = 0.0, 0
        self.trouble: ProtocolViolation | None = None
        self._task = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def over(
        cls,
        sock: socket.socket,
        on_event: Callable[[Incoming], None],
        on_closed: Callable[[Dap], None],
    ) -> Dap:
        """Speak over a connected Unix socket."""
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=MAX_HEADER)
        return cls(reader, writer, on_event, on_closed)

    async def ask(self, command: str, arguments: object = None) -> Incoming:
        """Send a request; its response. ``ConnectionError`` when the connection ends before."""
        if self._writer.is_closing():
            raise ConnectionResetError("the debugger's connection has ended")
        self._seq += 1
        request = {"seq": self._seq, "type": "request", "command": command, "arguments": arguments or {}}
        body = msgspec.json.encode(request)
        answer = self._waiting[self._seq] = asyncio.get_running_loop().create_future()
        self._writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        return await answer

    def close(self) -> None:
        """End the connection: pydevd resumes what is stopped and ends its threads."""
        if self._writer.is_closing():
            return
        self._writer.close()
        self._task.cancel()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError(str(self.trouble or "the debugger has ended")))
        self._waiting.clear()
        self._on_closed(self)

    async def _read(self) -> None:
        try:
            while True:
                await self._take(read(await self._message()))
        except ProtocolViolation as error:
            self.trouble = error
        except (asyncio.IncompleteReadError, OSError):
            pass  # the guest has hung up, or ended
        finally:
            self.close()

    async def _message(self) -> bytes:
        try:
            header = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise ProtocolViolation("no DAP header") from None
        length = _LENGTH.fullmatch(header)
        if length is None or int(length[1]) > MAX_MESSAGE:
            raise ProtocolViolation(f"a DAP header {header[:80]!r}")
        return await self._reader.readexactly(int(length[1]))

    async def _take(self, message: Incoming) -> None:
        if message.type == "event":
            self._on_event(message)
            await self._pace()
        elif message.type == "response":
            answer = self._waiting.pop(message.request_seq, None)
            if answer is not None and not answer.done():
                answer.set_result(message)

    async def _pace(self) -> None:
        now = time.monotonic()
        if now - self._window > 1:
            self._window, self._events = now, 0
        self._events += 1
        if self._events > EVENTS:
            await asyncio.sleep(self._window + 1 - now)

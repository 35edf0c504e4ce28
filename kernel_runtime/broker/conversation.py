"""One connection of a guest to the proxy: HTTP/1.1 by h11, each wait and each size bounded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import h11

from kernel_runtime.domain.errors import OutsideFailed
from kernel_runtime.domain.untold import without_paths

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from kernel_runtime.broker.flow import Bounds, Meter

_MAX_HEAD, _CHUNK = 65_536, 65_536
_MAX_REASON = 300
_LINGER_SECONDS, _LINGER_CHUNKS = 2.0, 256


class Conversation:
    """Requests of one connection, one after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bounds: Bounds) -> None:
        self.reader = reader
        self.writer = writer
        self._bounds = bounds
        self._is_head = False
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)

    @property
    def answered(self) -> bool:
        """Whether the head of an answer has been sent."""
        return self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    @property
    def trailing(self) -> bytes:
        """What came behind a request to switch protocols."""
        return self._http.trailing_data[0]

    async def request(self) -> h11.Request | None:
        """The next request; ``None`` when there is none any more. ``h11.RemoteProtocolError``: it is none."""
        if self._http.our_state is h11.DONE:
            while self._http.their_state is h11.SEND_BODY:
                if self._http.next_event() is h11.NEED_DATA:
                    return None  # part of a content that nobody wanted is still to come
            if self._http.their_state is not h11.DONE:
                return None
            self._http.start_next_cycle()
        elif self._http.our_state is not h11.IDLE:
            return None
        try:
            async with asyncio.timeout(self._bounds.head):
                event = await self._event()
        except TimeoutError:
            return None
        return event if isinstance(event, h11.Request) else None

    async def content(self, meter: Meter) -> AsyncIterator[bytes]:
        """The content of the present request, as it comes."""
        while True:
            try:
                async with asyncio.timeout(self._bounds.quiet):
                    event = await self._event()
            except TimeoutError:
                raise OutsideFailed("the content of the request stopped coming") from None
            if not isinstance(event, h11.Data):
                return
            await meter.moved(len(event.data))
            yield bytes(event.data)

    async def begin(self, status: int, reason: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The head of an answer."""
        plain = "".join(c if " " <= c <= "~" else " " for c in reason)[:_MAX_REASON]
        response = h11.Response(status_code=status, reason=plain.encode(), headers=list(headers))
        await self._send(response)

    async def send(self, data: bytes) -> None:
        """A piece of an answer's content."""
        await self._send(h11.Data(data=data))

    async def end(self) -> None:
        """The end of an answer."""
        await self._send(h11.EndOfMessage())

    async def refuse(self, status: int, why: str) -> None:
        """An answer that says why there is no other, in its first line too; the connection ends with it."""
        why = without_paths(why)
        text = f"{why}\n".encode()
        headers = [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Length", str(len(text)).encode()),
            (b"Connection", b"close"),
        ]
        await self.begin(status, why, headers)
        if not self._is_head:
            await self.send(text)
        await self.end()
        await self._linger()

    async def _linger(self) -> None:
        """Let a guest that is still sending read the answer first: closed at once, it might never see it."""
        self.writer.write_eof()
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                for _ in range(_LINGER_CHUNKS):
                    if not await self.reader.read(_CHUNK):
                        return
        except TimeoutError:
            pass

    async def _event(self) -> h11.Event | None:
        """The next thing the guest says; ``None``: it may say nothing now."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self.reader.read(_CHUNK))
        if isinstance(event, h11.Request):
            self._is_head = event.method == b"HEAD"
        return event if isinstance(event, h11.Event) else None

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self.writer.write(data)
            async with asyncio.timeout(self._bounds.quiet):
                await self.writer.drain()

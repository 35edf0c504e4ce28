"""IOPub: a ZMTP publisher with a queue of bytes for each subscriber.

Why not libzmq's XPUB: its high-water mark counts messages, not bytes, and knows two answers to
a subscriber that stalls: drop silently (plain ipykernel loses ``idle``) or block every other
subscriber (XPUB_NODROP). A queue for each subscriber needs the connection itself; a publisher
speaks little of ZMTP (``zmtp.py``), and writing from the loop saves a hop through libzmq's
I/O thread. Everything published in one turn of the loop leaves in one write.

What is published before anybody has subscribed waits for the first subscriber: a client whose
SUB socket connects later than its shell (libzmq tries again after 100 ms) loses nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.jupyter import zmtp
from kernel_runtime.jupyter.outbox import Outbox

if TYPE_CHECKING:
    import socket

    from kernel_runtime.jupyter.messages import Scribe
    from kernel_runtime.jupyter.outgoing import Outgoing

#: Written at once to a subscriber before its backpressure is asked again.
CHUNK = 512 * 1024
MAX_SUBSCRIBERS = 128
EARLY_BYTES = 4 * 1024 * 1024
GATHER_SECONDS = 0.02


class Publisher:
    """Sends each message to every subscriber of its topic; ``budget`` bytes wait for each."""

    def __init__(self, loop: asyncio.AbstractEventLoop, scribe: Scribe, budget: int) -> None:
        self.budget = budget
        self.scribe = scribe
        self.subscribers: set[Subscriber] = set()
        self._loop = loop
        self._pending: list[Outgoing] = []
        self._timer: asyncio.TimerHandle | None = None
        self._leaving = False
        self._early: Outbox | None = Outbox(EARLY_BYTES)
        self._server: asyncio.Server | None = None

    async def listen(self, listening: socket.socket) -> None:
        """Serve the subscribers that connect to ``listening`` (TCP or Unix)."""
        self._server = await self._loop.create_server(lambda: Subscriber(self), sock=listening)

    def topic(self, kind: str) -> bytes:
        """First frame of a message of ``kind``."""
        return f"kernel.{self.scribe.session}.{kind}".encode()

    def publish(self, out: Outgoing) -> None:
        """Queue for every subscriber; it leaves at the end of this turn of the loop.

        Text alone waits a moment for more: a cell's lines are one output, as ipykernel's are.
        """
        pending = self._pending
        if pending and pending[-1].takes(out):
            pending[-1].append(out)
            return
        pending.append(out)
        if out.kind == "stream" and len(pending) == 1:
            self._timer = self._loop.call_later(GATHER_SECONDS, self.flush)
        elif not self._leaving:
            self._leaving = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand what is pending to the subscribers' queues and send what they take."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._leaving = False
        pending, self._pending = self._pending, []
        if not pending:
            return
        if self._early is not None:
            for out in pending:
                self._early.push(out)
            if self._early.overfull:  # nobody listens, and what may not be dropped goes on and on
                self._early.clear()
        for subscriber in tuple(self.subscribers):
            subscriber.take(pending)

    def early(self) -> list[Outgoing]:
        """What waits for the first subscriber; once."""
        early, self._early = self._early, None
        return list(iter(early.pop, None)) if early else []

    async def drained(self, seconds: float) -> None:
        """Wait until every queue is empty, at most ``seconds``."""
        self.flush()
        end = self._loop.time() + seconds
        while any(s.waiting for s in self.subscribers) and self._loop.time() < end:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.005)

    def close(self) -> None:
        """Stop listening; connections end once their written bytes are out."""
        if self._server is not None:
            self._server.close()
        for subscriber in tuple(self.subscribers):
            subscriber.hang_up()


class Subscriber(asyncio.Protocol):
    """One connection: handshake first, then its queue as fast as it reads."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._peer = zmtp.Peer()
        self._outbox = Outbox(publisher.budget)
        self._transport: asyncio.Transport | None = None
        self._paused = False

    @property
    def waiting(self) -> bool:
        """Whether something is still to be sent to it."""
        buffered = self._transport.get_write_buffer_size() if self._transport else 0
        return bool(self._outbox) or buffered > 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"{type(transport)} cannot be written to")
        self._transport = transport
        if len(self._publisher.subscribers) >= MAX_SUBSCRIBERS:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=CHUNK)
        transport.write(zmtp.GREETING)
        self._publisher.subscribers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._publisher.subscribers.discard(self)
        self._outbox.clear()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._publisher.flush()
        try:
            answer, fresh = self._peer.feed(data)
        except zmtp.ZmtpError:
            self._transport.abort()
            return
        if answer:
            self._transport.write(answer)
        for topic in fresh:
            self._welcome(topic)
        if fresh and (early := self._publisher.early()):
            self.take(early)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send()

    def take(self, pending: list[Outgoing]) -> None:
        """Queue what it subscribed to; hang up on a reader that is hopelessly behind."""
        if not self._peer.topics:
            return
        everything = b"" in self._peer.topics
        for out in pending:
            if everything or self._peer.wants(self._publisher.topic(out.kind)):
                self._outbox.push(out)
        self._send()
        if self._outbox.overfull and self._transport is not None:
            self._transport.abort()

    def hang_up(self) -> None:
        """Close after what is written."""
        if self._transport is not None:
            self._transport.close()

    def _welcome(self, topic: bytes) -> None:
        """JEP 65: tell a new subscriber that it will miss nothing from here on."""
        text = topic.decode("utf-8", "replace")
        parts = self._publisher.scribe.write("iopub_welcome", welcome_content(text))
        if self._transport is not None:
            self._transport.write(zmtp.encode([topic, *parts] if topic else parts))

    def _send(self) -> None:
        """Write the queue in chunks until the connection pushes back."""
        publisher = self._publisher
        while self._outbox and not self._paused and self._transport is not None:
            chunks: list[bytes] = []
            size = 0
            while size < CHUNK and (out := self._outbox.pop()) is not None:
                chunks.append(out.encoded(publisher.scribe, publisher.topic(out.kind)))
                size += len(chunks[-1])
            self._transport.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))


def welcome_content(subscription: str) -> bytes:
    """Content of ``iopub_welcome``."""
    return msgspec.json.encode({"subscription": subscription})

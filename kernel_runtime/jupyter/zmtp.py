"""ZMTP 3.0 as a publisher speaks it: greeting, handshake, frames; pure, no I/O.

Source: https://rfc.zeromq.org/spec/23/ (NULL mechanism only). A subscriber's bytes go into
``Peer.feed``, which returns the bytes to send back and updates ``topics``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
MORE, LONG, COMMAND = 1, 2, 4
#: A subscriber sends a greeting, one READY and short subscriptions, nothing bigger.
MAX_FRAME = 4096
MAX_TOPICS = 100
_LONG_LENGTH = struct.Struct(">Q")


class ZmtpError(Exception):
    """The peer does not speak the subscriber's side of ZMTP 3; its connection is closed."""


def frame(body: bytes, flags: int = 0) -> bytes:
    """One frame's bytes."""
    return frame_head(len(body), flags) + body


def frame_head(size: int, flags: int = 0) -> bytes:
    """Flags and length of a frame of ``size`` bytes."""
    if size > 255:
        return bytes((flags | LONG,)) + _LONG_LENGTH.pack(size)
    return bytes((flags, size))


def encode(parts: Sequence[bytes]) -> bytes:
    """A multipart message as bytes."""
    chunks: list[bytes] = []
    last = len(parts) - 1
    for place, part in enumerate(parts):
        chunks.append(frame_head(len(part), MORE if place < last else 0))
        chunks.append(part)
    return b"".join(chunks)


def ready(socket_type: bytes) -> bytes:
    """The READY command that ends the NULL handshake."""
    body = b"\x05READY\x0bSocket-Type" + len(socket_type).to_bytes(4, "big") + socket_type
    return frame(body, COMMAND)


class Peer:
    """The subscriber at the other end: its handshake, its topics."""

    def __init__(self) -> None:
        self.topics: dict[bytes, int] = {}
        self.ready = False
        self._greeted = False
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[bytes, list[bytes]]:
        """Bytes that came → (bytes to send back, topics newly subscribed)."""
        self._buffer += data
        out = bytearray()
        if not self._greeted:
            if len(self._buffer) < len(GREETING):
                self._check_signature()
                return b"", []
            self._check_greeting(bytes(self._buffer[: len(GREETING)]))
            del self._buffer[: len(GREETING)]
            out += ready(b"XPUB")
        fresh: list[bytes] = []
        for flags, body in self._frames():
            if flags & COMMAND:
                out += self._command(body, fresh)
            elif self.ready and body[:1] in (b"\0", b"\1") and not flags & MORE:
                self._subscription(body[0] == 1, body[1:], fresh)
        return bytes(out), fresh

    def wants(self, topic: bytes) -> bool:
        """Whether a subscription is a prefix of ``topic``."""
        return b"" in self.topics or any(topic.startswith(prefix) for prefix in self.topics)

    def _check_signature(self) -> None:
        if self._buffer and self._buffer[0] != 0xFF:
            raise ZmtpError("no ZMTP greeting")

    def _check_greeting(self, greeting: bytes) -> None:
        if greeting[0] != 0xFF or greeting[9] & 1 != 1 or greeting[10] < 3:
            raise ZmtpError("ZMTP 3 is needed")
        if greeting[12:32].rstrip(b"\0") != b"NULL":
            raise ZmtpError("only the NULL mechanism is spoken here")
        self._greeted = True

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        while len(self._buffer) >= 2:
            flags, size, start = self._buffer[0], self._buffer[1], 2
            if flags & LONG:
                if len(self._buffer) < 9:
                    return
                size, start = _LONG_LENGTH.unpack_from(self._buffer, 1)[0], 9
            if size > MAX_FRAME:
                raise ZmtpError(f"a frame of {size} bytes from a subscriber")
            if len(self._buffer) < start + size:
                return
            body = bytes(self._buffer[start : start + size])
            del self._buffer[: start + size]
            yield flags, body

    def _command(self, body: bytes, fresh: list[bytes]) -> bytes:
        if not body:
            raise ZmtpError("a command without a name")
        name, rest = body[1 : 1 + body[0]], body[1 + body[0] :]
        if name == b"READY":
            self.ready = True
        elif name == b"ERROR":
            raise ZmtpError(f"the subscriber refused: {rest[:200]!r}")
        elif name == b"PING":
            return frame(b"\x04PONG" + rest[2:], COMMAND)
        elif name in (b"SUBSCRIBE", b"CANCEL") and self.ready:
            self._subscription(name == b"SUBSCRIBE", rest, fresh)
        return b""

    def _subscription(self, on: bool, topic: bytes, fresh: list[bytes]) -> None:
        count = self.topics.get(topic, 0) + (1 if on else -1)
        if count > 0 and len(self.topics) < MAX_TOPICS:
            self.topics[topic] = count
        elif count <= 0:
            self.topics.pop(topic, None)
        if on and count == 1:
            fresh.append(topic)

"""What a server sends, counted before its driver has it: libpq takes a message whole, and one row, error or notice may
be a gigabyte.

Below the driver's connection its socket is changed for one end of a pair; what comes and goes is carried between the
other end and the server, as it is (encrypted, where it is).
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import TYPE_CHECKING, Any

from kernel_runtime.broker.db_rows import MOST_BYTES
from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Generator

#: Bytes of one answer of the server's: a row, or all of an answer that is fetched as a whole. Bytes take twice their
#: size on the way, and what is more could not be handed out anyway.
MOST_AT_A_TIME = 2 * MOST_BYTES + (1 << 20)
_CHUNK = 1 << 16
_IN, _OUT = select.POLLIN | select.POLLHUP | select.POLLERR, select.POLLOUT
#: Of the generators that psycopg's connections wait for: to be read, to be written.
_READ, _WRITE = 1, 2


class Intake:
    """Takes over the socket with this descriptor, which stays the driver's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._server = socket.socket(fileno=os.dup(descriptor))
        self._server.setblocking(False)
        self._mine, theirs = socket.socketpair()
        self._mine.setblocking(False)
        theirs.setblocking(False)
        with theirs:
            os.dup2(theirs.fileno(), descriptor, inheritable=False)
        self._coming, self._going = b"", b""
        self._ended = False
        self._taken = 0

    def wait(self, steps: Generator[Any, Any, Any]) -> Any:
        """Go through steps of the driver's to their end; ``Invalid`` when the server has sent too much for them."""
        self._taken = 0
        try:
            wanted = next(steps)
            while True:
                ready = self._ready(wanted)
                if ready:
                    wanted = steps.send(ready)
                else:
                    self._carry()
        except StopIteration as end:
            return end.value

    def close(self) -> None:
        """The driver's end reads an end. Idempotent."""
        self._server.close()
        self._mine.close()

    def _ready(self, wanted: int) -> int:
        """What the driver's descriptor is ready for now, of what is wanted."""
        poll = select.poll()
        poll.register(self._descriptor, _events(reads=wanted & _READ, writes=wanted & _WRITE))
        seen = sum(event for _, event in poll.poll(0))
        broken = seen & (select.POLLHUP | select.POLLERR)
        reads = wanted & _READ if seen & select.POLLIN or broken else 0
        return reads | (wanted & _WRITE if seen & select.POLLOUT or broken else 0)

    def _carry(self) -> None:
        """Wait until something can be carried, and carry it."""
        poll = select.poll()
        ends = (
            (self._server, _events(reads=not (self._coming or self._ended), writes=self._going)),
            (self._mine, _events(reads=not self._going, writes=self._coming)),
        )
        for end, events in ends:
            if events:
                poll.register(end.fileno(), events)
        for descriptor, event in poll.poll():
            if descriptor == self._server.fileno():
                self._at_the_server(event)
            else:
                self._at_the_driver(event)

    def _at_the_server(self, event: int) -> None:
        if event & _OUT and self._going:
            self._going = self._going[_sent(self._server, self._going) :]
        if event & _IN and not (self._coming or self._ended):
            self._coming = self._received()

    def _at_the_driver(self, event: int) -> None:
        if event & _OUT and self._coming:
            self._coming = self._coming[_sent(self._mine, self._coming) :]
        if event & _IN and not self._going:
            with contextlib.suppress(OSError):
                self._going = self._mine.recv(_CHUNK)

    def _received(self) -> bytes:
        """From the server; at its end the driver's end ends, too."""
        try:
            data = self._server.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._ended = True
            self._mine.shutdown(socket.SHUT_WR)
        self._taken += len(data)
        if self._taken > MOST_AT_A_TIME:
            self.close()
            raise Invalid(
                f"sql: a row, or what the server says, takes more than {MOST_AT_A_TIME >> 20} MiB: ask for a part "
                "of it (left, substr, fewer columns)"
            )
        return data


def _events(*, reads: object, writes: object) -> int:
    return (_IN if reads else 0) | (_OUT if writes else 0)


def _sent(end: socket.socket, data: bytes) -> int:
    """How much went; all of it where nobody takes it any more, for then the end is read, too."""
    try:
        return end.send(data)
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)

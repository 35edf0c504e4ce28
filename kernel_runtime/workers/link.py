"""The host's end of a guest's socket: frames in and out within the event loop.

The peer is hostile. A frame is bounded in size before it is decoded; when frames come faster
than ``RATE`` (or the link's own) for longer than ``BURST`` allows, reading rests and the guest
waits. Who works longer on a frame than a moment holds the link meanwhile. What is not a frame ends the link with a ``ProtocolViolation``; an end in the middle of a
frame, too.
"""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import os
import socket
import struct
import termios
from collections import deque
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire
from kernel_runtime.domain.bucket import Bucket
from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.guest.passing import receive_fds

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

RATE = 100_000  # frames per second that may go on for ever
BURST = 200_000  # frames that may come at once
#: For a larger buffer the allocator maps new memory at each read: ten times the read's own time.
_CHUNK = 1 << 16
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid of a sender, as the kernel tells them
_CHUNKS_AT_ONCE = 64
_MAX_FDS = 8
#: What may wait for a peer that does not read: a few of the largest values.
MAX_WAITING = 4 * wire.MAX_FRAME
#: Far more than the buffers of a socket or a pipe hold of a peer that has ended.
_LAST_CHUNKS = 256
#: What a guest's frames may cost the host at a time; beyond it, half of the time belongs to others.
_LONG_SECONDS = 0.05
#: For how long it goes on reading before others have a turn: while there is more, and while the peer, answered, asks again.
_TURN_SECONDS, _ROW_SECONDS = 0.01, 0.001


class Link:
    """Reads frames of one peer and hands them to ``on_frame``; ``on_closed`` comes once.

    ``names_sender``: ``sender`` is the pid of the process that the latest frame came from.
    """

    def __init__(
        self,
        sock: socket.socket,
        decoder: msgspec.msgpack.Decoder[Any],
        on_frame: Callable[[Any], None],
        on_closed: Callable[[ProtocolViolation | None], None],
        *,
        takes_fds: bool = False,
        names_sender: bool = False,
        rate: float | None = None,
        limit: int = wire.MAX_FRAME,
    ) -> None:
        sock.setblocking(False)
        if names_sender:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._reader = wire.FrameReader(decoder, limit)
        self._on_frame = on_frame
        self._on_closed = on_closed
        self._takes_fds = takes_fds
        self._names_sender = names_sender
        self.sender = 0
        self._outgoing: deque[memoryview] = deque()
        self._waiting = 0
        now = self._loop.time()
        self._bucket = Bucket(RATE, BURST, now) if rate is None else Bucket(rate, 2 * rate, now)
        self.fds: deque[int] = deque()
        self.chunks = 0
        self._holds = 0
        self._answered = False
        self._resting = False
        self.closed = False
        self._loop.add_reader(sock.fileno(), self._read)

    # -- out ---------------------------------------------------------------------------------

    def send(self, frame: wire.Frame, fds: list[int] | None = None) -> None:
        """Send now what the socket takes, the rest as it drains. Closed: silently nothing."""
        if self.closed:
            return
        self._answered = True
        data, sent = wire.pack(frame), 0
        if not self._outgoing:
            sent = self._send_now(data, fds)
            if sent == len(data):
                return
            self._loop.add_writer(self._socket.fileno(), self._write)
        elif fds:
            raise BlockingIOError("descriptors cannot wait in line")
        self._outgoing.append(memoryview(data)[sent:])
        self._waiting += len(data) - sent
        if self._waiting > MAX_WAITING:
            trouble = ProtocolViolation(f"it left {self._waiting} bytes that were sent to it unread")
            self._loop.call_soon(self._end, trouble)

    def _send_now(self, data: bytes | memoryview, fds: list[int] | None) -> int:
        try:
            if fds:
                return socket.send_fds(self._socket, [data], fds)
            return self._socket.send(data)
        except BlockingIOError:
            if fds:
                raise
            return 0
        except OSError as error:  # the reader sees the end and says why
            if fds and error.errno == errno.ETOOMANYREFS:  # no end: the peer would wait for ever
                raise
            return len(data)

    def _write(self) -> None:
        while self._outgoing:
            data = self._outgoing[0]
            sent = self._send_now(data, None)
            self._waiting -= sent
            if sent < len(data):
                self._outgoing[0] = data[sent:]
                return
            self._outgoing.popleft()
        self._loop.remove_writer(self._socket.fileno())

    # -- in ----------------------------------------------------------------------------------

    def pass_on(
        self, on_frame: Callable[[Any], None], on_closed: Callable[[ProtocolViolation | None], None]
    ) -> None:
        """From now on somebody else is told."""
        if not self.closed:
            self._on_frame, self._on_closed = on_frame, on_closed

    def _read(self) -> None:
        begun = self._loop.time()
        for _ in range(_CHUNKS_AT_ONCE):
            data = self._receive()
            if data is None:
                return
            if not data:
                cut = self._reader.pending
                self._end(
                    ProtocolViolation(f"the connection closed {cut} bytes into a frame") if cut else None
                )
                return
            self._answered = False
            if not self._deliver(data) or self._loop.time() - begun > self._turn(len(data)):
                return

    def _turn(self, size: int) -> float:
        """Seconds that it may have read for and still goes on, behind a chunk of this size."""
        if size == _CHUNK:
            return _TURN_SECONDS
        return _ROW_SECONDS if self._answered else 0.0

    def _receive(self) -> bytes | None:
        """Bytes, b"" at the end, None when there is nothing now."""
        try:
            if self._names_sender:
                return self._receive_named()
            if not self._takes_fds:
                return self._socket.recv(_CHUNK)
            data, fds = receive_fds(self._socket, _CHUNK, _MAX_FDS)
            self.fds.extend(fds)
            return data
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _receive_named(self) -> bytes:
        """Bytes of one process, whose pid the kernel tells: ``sender``."""
        data, beside, _, _ = self._socket.recvmsg(_CHUNK, socket.CMSG_SPACE(_CREDENTIALS.size))
        for level, kind, value in beside:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                self.sender = _CREDENTIALS.unpack(value)[0]
        return data

    def _deliver(self, data: bytes) -> bool:
        """Hand out the frames that are complete; False when reading must stop for now."""
        self._reader.feed(data)
        self.chunks += 1
        return self._hand_out()

    def _hand_out(self, *, last: bool = False) -> bool:
        """``last``: the peer has ended, and nobody holds up its last words."""
        count = 0
        begun = self._loop.time()
        try:
            for frame in self._reader.frames():
                count += 1
                self._on_frame(frame)
                if self.closed:
                    return False
                if self._holds and not last:
                    break
        except Exception as error:  # noqa: BLE001 — whatever a frame sets off: its cell must not wait for ever
            self.trouble(error)
            return False
        now = self._loop.time()
        return self._within_rate(count, now, now - begun)

    def _within_rate(self, count: int, now: float, spent: float) -> bool:
        """Too many frames, or frames that took the host long: as long again it does not read."""
        wait = self._bucket.owe(now, count)
        if spent > _LONG_SECONDS:
            wait = max(wait, spent)
        if wait > 0:
            self._resting = True
            self._loop.call_later(wait, self._rested)
        may_read = self._may_read
        if not may_read:
            self._loop.remove_reader(self._socket.fileno())
        return may_read

    @property
    def _may_read(self) -> bool:
        return not (self.closed or self._holds or self._resting)

    def _rested(self) -> None:
        self._resting = False
        self._continue()

    def hold(self) -> None:
        """Until ``go_on`` nothing more is read, and handed out: the guest waits once the socket's buffer is full."""
        self._holds += 1
        if not self.closed:
            self._loop.remove_reader(self._socket.fileno())

    def go_on(self) -> None:
        """As often as it is held."""
        self._holds -= 1
        self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        """First what was read already."""
        if self._may_read and self._hand_out():
            self._loop.add_reader(self._socket.fileno(), self._read)

    def take_no_fds(self) -> None:
        """From now on: what came is closed, what comes is lost on its way."""
        self._takes_fds = False
        while self.fds:
            os.close(self.fds.popleft())

    def drain(self) -> None:
        """Read what is already there (the peer has just ended)."""
        if not self.closed:
            self._hand_out(last=True)
        for _ in range(_LAST_CHUNKS):
            if self.closed or not (data := self._receive()):
                return
            self._reader.feed(data)
            self.chunks += 1
            self._hand_out(last=True)

    def close(self) -> None:
        """Close without calling ``on_closed``. Lets go of whom it told: nobody is to wait for the
        collector of cycles until a guest's memory is free again."""
        if self.closed:
            return
        self.closed = True
        self._on_frame = self._on_closed = _tell_nobody
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self.take_no_fds()

    def fail(self, error: ProtocolViolation) -> None:
        """End it for what a frame turned out to be after it was handed out."""
        self._end(error)

    def trouble(self, error: Exception) -> None:
        """End it for what a frame has set off; what is no fault of the guest's is told to the loop, too."""
        if isinstance(error, ProtocolViolation):
            self._end(error)
            return
        self._loop.call_exception_handler({"message": "a guest's frame was not handled", "exception": error})
        self._end(ProtocolViolation(f"a frame could not be handled: {type(error).__name__}: {error}"))

    def _end(self, error: ProtocolViolation | None) -> None:
        if not self.closed:
            tell = self._on_closed
            self.close()
            tell(error)


class Pipe:
    """The read end of a guest's stdout or stderr; text is handed to ``on_text`` as it comes."""

    def __init__(self, fd: int, on_text: Callable[[str], None]) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._on_text = on_text
        self._decoder = _utf8_decoder()
        self.closed = False
        self._loop.add_reader(fd, self._read)

    def drain(self) -> None:
        """Hand over what the pipe holds now; a guest that goes on writing is not waited for."""
        left = 0 if self.closed else _held(self._fd) + 1  # one more read, which sees its end
        while left > 0 and not self.closed:
            left -= self._read()

    def _read(self) -> int:
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return 1 << 16
        text = self._decoder.decode(data, final=not data)
        if text:
            self._on_text(text)
        if not data:
            self.close()
        return len(data)

    def hold(self) -> None:
        """As ``Link`` does, but holds are not counted."""
        if not self.closed:
            self._loop.remove_reader(self._fd)

    def go_on(self) -> None:
        if not self.closed:
            self._loop.add_reader(self._fd, self._read)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._on_text = _tell_nobody
            self._loop.remove_reader(self._fd)
            os.close(self._fd)


def _tell_nobody(_: object) -> None:
    """It is closed."""


def _held(fd: int) -> int:
    """Bytes that wait in a pipe."""
    answer = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, answer)
    return answer[0]


def _utf8_decoder() -> Any:
    import codecs

    return codecs.getincrementaldecoder("utf-8")(errors="replace")

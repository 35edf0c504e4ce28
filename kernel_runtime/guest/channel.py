"""A blocking channel of frames with descriptors beside them, over a Unix stream socket.

Used where one thread serves one peer: by the zygote and by a session's pid 1.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire
from kernel_runtime.guest.passing import receive_fds

if TYPE_CHECKING:
    import msgspec

_CHUNK = 1 << 16
_MAX_FDS = 16
_PEEK = int(socket.MSG_PEEK)


class Channel:
    """Frames out, frames in; descriptors that came along wait in ``fds``, oldest first."""

    def __init__(self, sock: socket.socket, decoder: msgspec.msgpack.Decoder[Any]) -> None:
        self._socket = sock
        self._reader = wire.FrameReader(decoder)
        self._frames: deque[Any] = deque()
        self.fds: deque[int] = deque()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, frame: wire.Frame, fds: list[int] | None = None) -> None:
        """Send all of it, descriptors with the first byte."""
        data = memoryview(wire.pack(frame))
        sent = socket.send_fds(self._socket, [data], fds) if fds else self._socket.send(data)
        if sent < len(data):  # else the peer may have what it waited for, and be gone
            self._socket.sendall(data[sent:])

    def receive(self) -> Any | None:
        """The next frame, waiting for it; None at the end of the connection."""
        while not self._frames:
            try:
                data, fds = receive_fds(self._socket, _CHUNK, _MAX_FDS)
            except ConnectionResetError:  # it has hung up without reading all that was sent to it
                return None
            self.fds.extend(fds)
            if not data:
                return None
            self._reader.feed(data)
            self._frames.extend(self._reader.frames())
        return self._frames.popleft()

    def wait(self) -> None:
        """Until something comes, or the connection ends; nothing is taken."""
        self._socket.recv(1, _PEEK)

    @property
    def has_frames(self) -> bool:
        """Whether ``receive`` would answer at once from what it has already read."""
        return bool(self._frames)

    def take_fds(self, count: int) -> list[int]:
        """The descriptors that belong to the frame just received."""
        return [self.fds.popleft() for _ in range(count)]

    def close(self) -> None:
        self._socket.close()
        while self.fds:
            socket.close(self.fds.popleft())

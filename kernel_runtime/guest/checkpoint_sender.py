"""The writer's end of the socket: chunks leave as they are made, records when all is known."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from kernel_runtime import wire
from kernel_runtime.domain.checkpoint import DIGEST, Part
from kernel_runtime.guest import checkpoint_chunks as chunks

if TYPE_CHECKING:
    from kernel_runtime.domain.checkpoint import Group
    from kernel_runtime.guest.channel import Channel

#: Bytes of chunks that leave together.
_TOGETHER = 1024 * 1024


class Sender:
    """Sends each chunk that the host does not know, once."""

    def __init__(self, channel: Channel, seed: int, known: set[bytes]) -> None:
        self._channel = channel
        self._seed = seed
        self._known = known
        self._waiting: list[bytes | memoryview] = []
        self._digests = bytearray()
        self._size = 0

    def chunk(self, data: bytes | memoryview) -> bytes:
        """Take one chunk; its digest."""
        name = chunks.digest(data, self._seed)
        if name not in self._known:
            self._known.add(name)
            self._waiting.append(data)
            self._digests += name
            self._size += len(data)
            if self._size >= _TOGETHER:
                self.flush()
        return name

    def buffer(self, memory: memoryview) -> Part:
        """Take a whole buffer."""
        digests = b"".join(map(self.chunk, chunks.fixed(memory)))
        return Part(size=len(memory), digests=digests, readonly=memory.readonly)

    def flush(self) -> None:
        """Send what waits."""
        if not self._waiting:
            return
        sizes = struct.pack(f"<{len(self._waiting)}I", *map(len, self._waiting))
        data = b"".join(self._waiting)
        self._channel.send(wire.Chunks(sizes=sizes, digests=bytes(self._digests), data=data))
        self._waiting, self._digests, self._size = [], bytearray(), 0

    def group(self, group: Group) -> None:
        """A group's record, after its chunks."""
        self.flush()
        for part in group.parts:
            self._channel.send(wire.SavedPart(size=part.size, digests=part.digests, readonly=part.readonly))
        self._channel.send(wire.SavedGroup(number=group.number, names=group.names, packages=group.packages))


def known_from(channel: Channel) -> set[bytes]:
    """Read ``Known`` frames up to the last one."""
    known: set[bytes] = set()
    while True:
        frame = channel.receive()
        if not isinstance(frame, wire.Known):
            raise EOFError("the host went away")
        names = frame.digests
        known.update(names[start : start + DIGEST] for start in range(0, len(names), DIGEST))
        if frame.last:
            return known

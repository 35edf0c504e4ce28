"""The writer's end of the socket: chunks leave as they are made, records when all is known."""

from __future__ import annotations

import select
import struct
from contextlib import closing
from itertools import chain, islice
from typing import TYPE_CHECKING

from kernel_runtime import wire
from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.checkpoint import Part, split
from kernel_runtime.guest import checkpoint_chunks as chunks
from kernel_runtime.guest import checkpoint_hashing as hashing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kernel_runtime.domain.checkpoint import Group
    from kernel_runtime.guest.channel import Channel

#: Bytes of chunks that leave together.
_TOGETHER = 1 * MIB
#: Bytes of streams that are kept while the host looks up what it knows.
_AHEAD = 16 * MIB


class Sender:
    """Sends each chunk that the host does not know, once."""

    def __init__(self, channel: Channel, seed: int) -> None:
        self._channel = channel
        self._seed = seed
        self._known: set[bytes] | None = None
        self._offered: list[tuple[list[bytes], Iterable[bytes | memoryview]]] = []
        self._ahead = 0
        self._waiting: list[bytes | memoryview] = []
        self._digests = bytearray()
        self._size = 0

    def chunks(self, data: list[bytes]) -> bytes:
        """Take chunks of a stream; their digests."""
        names = [chunks.digest(chunk, self._seed) for chunk in data]
        self._ahead += sum(map(len, data))
        self._offer(names, data)
        return b"".join(names)

    def let_go(self) -> None:
        """In a helper: the socket is the writer's, whose end the host is to see."""
        self._channel.close()

    def buffers(self, memories: Sequence[memoryview], *, helped: bool) -> list[Part]:
        """Take whole buffers; ``helped``: with the other core, if there is one."""
        cut = [hashing.pieces(memory) for memory in memories]
        work = list(chain.from_iterable(cut))
        found = dict.fromkeys(range(len(work)), b"")
        with closing(hashing.digests(work, self._seed, self.let_go if helped else None)) as made:
            for place, digests in made:
                found[place] = digests
                self._offer(split(digests), chunks.fixed(work[place]))
        rest = iter(found.values())
        return [
            Part(size=len(memory), digests=b"".join(islice(rest, len(some))), readonly=memory.readonly)
            for memory, some in zip(memories, cut, strict=True)
        ]

    def _offer(self, names: list[bytes], data: Iterable[bytes | memoryview]) -> None:
        """Chunks to be sent if they are new; there is other work while the host looks up what it knows."""
        self._offered.append((names, data))
        if self._known is not None or self._ahead >= _AHEAD or _is_readable(self._channel):
            self._sort_out()

    def _sort_out(self) -> None:
        if self._known is None:
            self._known = known_from(self._channel)
        known = self._known
        for names, data in self._offered:
            if not known.issuperset(names):
                for name, chunk in zip(names, data, strict=True):
                    if name not in known:
                        known.add(name)
                        self._take(name, chunk)
        self._offered.clear()

    def _take(self, name: bytes, data: bytes | memoryview) -> None:
        self._waiting.append(data)
        self._digests += name
        self._size += len(data)
        if self._size >= _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        """Send what waits."""
        if not self._waiting:
            return
        sizes = struct.pack(f"<{len(self._waiting)}I", *map(len, self._waiting))
        data = b"".join(self._waiting)
        self._channel.send(wire.Chunks(sizes=sizes, digests=bytes(self._digests), data=data))
        self._waiting, self._digests, self._size = [], bytearray(), 0

    def group(self, group: Group) -> None:
        """A group's record, after its chunks."""
        self._sort_out()
        self._flush()
        for part in group.parts:
            self._channel.send(wire.SavedPart(size=part.size, digests=part.digests, readonly=part.readonly))
        self._channel.send(wire.SavedGroup(number=group.number, names=group.names, packages=group.packages))


def _is_readable(channel: Channel) -> bool:
    waiting = select.poll()
    waiting.register(channel.fileno(), select.POLLIN)
    return channel.has_frames or bool(waiting.poll(0))


def known_from(channel: Channel) -> set[bytes]:
    """Read ``Known`` frames up to the last one."""
    known: set[bytes] = set()
    while True:
        frame = channel.receive()
        if not isinstance(frame, wire.Known):
            raise EOFError("the host went away")
        known.update(split(frame.digests))
        if frame.last:
            return known

"""Cutting a checkpoint into chunks, so that only new ones are sent.

A buffer is cut every 64 KB. A pickle stream is cut where its content says so: a cut that an
earlier change moved would make all that follows new. Candidates are found at the speed of C; of
these, one in ``_ONE_IN`` is a cut, chosen by a hash of the bytes before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUFFER_CHUNK = 64 * 1024
#: Bounds of a stream's chunk; about half of the longest on average.
SHORTEST, LONGEST = 1024, 4096
_WINDOW = 32
_ONE_IN = 16
_CUT_BELOW = 2**64 // _ONE_IN
#: One byte value in 32, spread evenly; among them MEMOIZE, which pickle writes after each new object.
_MARK = 1
_MARKS = bytes(_MARK if value % 32 == 0x14 else 0 for value in range(256))
_FRAME, _FRAME_HEADER = 0x95, 9
#: The shortest header before a payload of its own; the longest rest of a stream that has no frame.
_PAYLOAD_HEADER = 5


def digest(chunk: bytes | memoryview, seed: int) -> bytes:
    """What a chunk is compared by. Not cryptographic: the host names what it keeps by itself."""
    return xxhash.xxh3_128_digest(chunk, seed)


def fixed(buffer: memoryview) -> Iterator[memoryview]:
    """A buffer's chunks."""
    for start in range(0, len(buffer), BUFFER_CHUNK):
        yield buffer[start : start + BUFFER_CHUNK]


def cut(data: bytes, *, keep: int = 0) -> list[bytes]:
    """Its chunks, while more than ``keep`` bytes are left."""
    marks = data.translate(_MARKS)
    found, start = [], 0
    while len(data) - start > keep:
        stop = _end(data, marks, start)
        found.append(data[start:stop])
        start = stop
    return found


def _end(data: bytes, marks: bytes, start: int) -> int:
    """Where the chunk that begins at ``start`` ends."""
    hashed, find = xxhash.xxh3_64_intdigest, marks.find
    last = min(start + LONGEST, len(data))
    place = find(_MARK, start + SHORTEST, last) + 1
    while place and hashed(data[place - _WINDOW : place]) >= _CUT_BELOW:
        place = find(_MARK, place, last) + 1
    return place or last


class StreamCutter:
    """A file for a pickler: what it writes, as chunks handed to ``emit``, some at a time.

    Frame headers are left out (unpicklers need none): there is one every 64 KB, wherever that
    falls, so that after an insertion each of them would make another chunk new.
    """

    def __init__(self, emit: Callable[[list[bytes]], None]) -> None:
        self._emit = emit
        self._buffer = bytearray()
        self._payload = False
        self.size = 0

    def write(self, data: bytes) -> int:
        """Called by the pickler: frames, or the payload of one large object as it is."""
        if self._payload:
            self._payload = False
            self._take(data)
            return len(data)
        with memoryview(data) as view:
            rest = view
            if not self.size:  # PROTO and its number come before the first frame
                self._take(rest[:2])
                rest = rest[2:]
            if len(rest) > _FRAME_HEADER and rest[0] == _FRAME:
                framed = int.from_bytes(rest[1:_FRAME_HEADER], "little")
                self._payload = len(rest) > _FRAME_HEADER + framed
                rest = rest[_FRAME_HEADER:]
            else:
                self._payload = len(rest) >= _PAYLOAD_HEADER
            self._take(rest)
        return len(data)

    def _take(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        self._buffer += data
        if len(self._buffer) >= BUFFER_CHUNK:
            self._cut(keep=LONGEST)

    def close(self) -> None:
        """The last chunks."""
        self._cut(keep=0)

    def _cut(self, *, keep: int) -> None:
        found = cut(bytes(self._buffer), keep=keep)
        self._emit(found)
        del self._buffer[: sum(map(len, found))]

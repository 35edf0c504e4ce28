"""A pickle stream on its way into chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_runtime.domain.checkpoint import Part
from kernel_runtime.guest.checkpoint_chunks import StreamCutter

if TYPE_CHECKING:
    from kernel_runtime.guest.checkpoint_sender import Sender


class Stream:
    """What a pickler writes into ``cutter`` is sent."""

    def __init__(self, sender: Sender) -> None:
        self._digests = bytearray()
        self.cutter = StreamCutter(lambda chunks: self._digests.extend(sender.chunks(chunks)))

    def part(self) -> Part:
        self.cutter.close()
        return Part(size=self.cutter.size, digests=bytes(self._digests))


class Nothing:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)

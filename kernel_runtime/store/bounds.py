"""What a writer is told to keep comes from a guest: the bookkeeping that holds it to the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_runtime.domain.checkpoint import DIGEST, split
from kernel_runtime.domain.errors import ProtocolViolation, StorageFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.domain.checkpoint import Group, Part, Quota

MAX_CHUNK = 64 * 1024
_MAX_TEXT = 2000
_MAX_PARTS = 200_000


class Bounds:
    """Counts bytes, chunks and names of one checkpoint against its quota."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._chunks = 0
        self._references = 0
        self._parts = 0
        self._numbers: set[int] = set()
        self.names: list[str] = []
        self.skipped: dict[str, str] = {}
        self.added = 0
        self.size = 0

    def chunks(self, digests: bytes, chunks: list[memoryview]) -> Iterator[tuple[bytes, memoryview]]:
        """Chunks with their digests, counted."""
        if len(digests) != DIGEST * len(chunks):
            raise ProtocolViolation("there are more or fewer digests than chunks")
        for place, chunk in enumerate(chunks):
            if not 0 < len(chunk) <= MAX_CHUNK:
                raise ProtocolViolation(f"a chunk of {len(chunk)} bytes")
            self._chunks += 1
            self.added += len(chunk)
            self._hold("bytes", self.added, self._quota.bytes)
            self._hold("chunks", self._chunks, self._quota.chunks)
            yield digests[place * DIGEST : (place + 1) * DIGEST], chunk

    def group(self, group: Group) -> None:
        if group.number in self._numbers or not group.parts:
            raise ProtocolViolation(f"the group {group.number} came twice, or empty")
        self._numbers.add(group.number)
        self._parts += len(group.parts)
        if self._parts > _MAX_PARTS:
            raise ProtocolViolation(f"more than {_MAX_PARTS} parts")
        for name in group.names:
            self._name(name)

    def part(self, part: Part) -> list[bytes]:
        """The digests of a part, one by one."""
        if len(part.digests) % DIGEST:
            raise ProtocolViolation("a digest is cut")
        self._references += len(part.digests) // DIGEST
        self.size += part.size
        self._hold("bytes", self.size, self._quota.bytes)
        self._hold("chunks", self._references, self._quota.chunks)
        return split(part.digests)

    def skip(self, name: str, reason: str) -> None:
        self._name(name)
        self.skipped[name] = reason[:_MAX_TEXT]

    def _name(self, name: str) -> None:
        if name in self.skipped or len(name) > _MAX_TEXT:
            raise ProtocolViolation("a variable came twice, or its name is too long")
        self.names.append(name)
        self._hold("variables", len(self.names), self._quota.names)

    @staticmethod
    def _hold(what: str, used: int, most: int) -> None:
        if used > most:
            raise StorageFailed(f"the checkpoint has more than {most} {what}, which is its quota")

    def saved(self) -> list[str]:
        """The variables that are inside; ``ProtocolViolation`` if one came twice."""
        names = [name for name in self.names if name not in self.skipped]
        if len(set(names)) != len(names):
            raise ProtocolViolation("a variable is in two groups")
        return names


def check_sizes(part: Part, sizes: list[int]) -> None:
    """A part is as long as its chunks."""
    if sum(sizes) != part.size:
        raise ProtocolViolation(f"a part of {part.size} bytes has chunks of {sum(sizes)}")

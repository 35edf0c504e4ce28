"""The content of an answer, read up to a limit; what is packed is unpacked no further than that."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import OutsideFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

_GZIP = 16 + zlib.MAX_WBITS
PACKED = frozenset({"gzip", "x-gzip"})


async def read(pieces: AsyncIterable[bytes], limit: int, encoding: str) -> tuple[bytes, int]:
    """The content, unpacked if it is gzip, and the bytes that came. ``OutsideFailed`` beyond ``limit``."""
    unpack = _Gunzip(limit) if encoding in PACKED else None
    content, came = bytearray(), 0
    async for piece in pieces:
        came += len(piece)
        content += piece if unpack is None else unpack.feed(piece)
        if max(len(content), came) > limit:
            raise OutsideFailed(f"the answer is larger than {limit} bytes (max_bytes)")
    if unpack is not None and not unpack.whole:
        raise OutsideFailed("the answer ends in the middle of its gzip encoding")
    return bytes(content), came


class _Gunzip:
    """Unpacks no more than a byte over the limit, however much a piece holds."""

    def __init__(self, limit: int) -> None:
        self._left = limit + 1
        self._member: zlib._Decompress | None = None
        self.whole = True

    def feed(self, data: bytes) -> bytes:
        unpacked = bytearray()
        while data and self._left > 0:
            member = self._member or zlib.decompressobj(_GZIP)
            try:
                part = member.decompress(data, self._left)
            except zlib.error as error:
                raise OutsideFailed(f"the answer says it is gzip, and is not: {error}") from None
            unpacked += part
            self._left -= len(part)
            data = member.unused_data or member.unconsumed_tail
            self._member = None if member.eof else member
            self.whole = member.eof
        return bytes(unpacked)

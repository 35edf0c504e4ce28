"""zstd, with what it may become in memory bounded before it does."""

from __future__ import annotations

import zstandard

_LEVEL = 1


def pack(data: bytes) -> bytes:
    """Compressed, with its size in front."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(data)


def unpack(data: bytes, most: int) -> bytes:
    """What ``pack`` was given; ``ValueError`` if it is longer than ``most``, or nothing of ``pack``."""
    try:
        size = zstandard.get_frame_parameters(data).content_size
        if size > most:  # an unknown size is a very large one
            raise ValueError(f"more than {most} bytes")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=most)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None

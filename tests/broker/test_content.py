"""Contents of answers: bounded, unpacked no further than the bound."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker import content
from kernel_runtime.domain.errors import OutsideFailed
from tests.broker.outside import in_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def read(data: bytes, limit: int = 1000, encoding: str = "gzip", size: int = 7) -> bytes:
    async def pieces() -> AsyncIterator[bytes]:
        for place in range(0, len(data), size):
            yield data[place : place + size]

    found: tuple[bytes, int] = in_loop(content.read(pieces(), limit, encoding))
    assert found[1] == len(data)
    return found[0]


def test_gzip_is_unpacked_however_it_is_cut() -> None:
    packed = gzip.compress(b"hello ") + gzip.compress(b"world")
    for size in (1, 7, 1000):
        assert read(packed, size=size) == b"hello world"
    assert read(b"plain", encoding="") == b"plain"
    assert read(b"", encoding="gzip") == b""


@pytest.mark.parametrize(
    "data",
    [b"no gzip at all", gzip.compress(b"hello")[:-3], gzip.compress(b"x") + b"junk"],
    ids=["none", "cut", "more"],  # what is packed holds the time
)
def test_what_is_no_whole_gzip_is_told(data: bytes) -> None:
    with pytest.raises(OutsideFailed, match="gzip"):
        read(data)


def test_a_bomb_is_unpacked_to_the_bound_only(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    largest = 0
    feed = content._Gunzip.feed

    def watched(self: content._Gunzip, data: bytes) -> bytes:
        nonlocal largest
        unpacked = feed(self, data)
        largest = max(largest, len(unpacked))
        return unpacked

    monkeypatch.setattr(content._Gunzip, "feed", watched)
    with pytest.raises(OutsideFailed, match="larger than 100000 bytes"):
        read(bomb, 100_000, size=len(bomb))
    assert largest == 100_001

"""What a guest makes the list of its mappings look like costs the host no more than so much."""

from __future__ import annotations

import io
import mmap
import os
from typing import TYPE_CHECKING

from kernel_runtime.workers import written

if TYPE_CHECKING:
    import pytest


class Endless(io.FileIO):
    """A list of one mapping after another, each with a long name."""

    def __init__(self) -> None:
        super().__init__(os.devnull)
        self.taken = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert size >= 0, "all of it"
        self.taken += size
        return (b"7f0000000000-7f0000001000 r--p 00000000 00:00 0 /" + b"d" * 3000 + b"\n").ljust(size)[:size]

    def readall(self) -> bytes:
        raise AssertionError("all of it")


def own(name: str) -> io.FileIO:
    return io.FileIO(f"/proc/self/{name}")


def test_what_was_written_is_found() -> None:
    with mmap.mmap(-1, written.PAGE, flags=mmap.MAP_PRIVATE) as page:
        page[0] = 1
        found = written.pages(own("maps"), own("pagemap"))
    assert found.written
    assert found.mapped


def test_of_a_list_without_end_only_so_much_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "_SECONDS", 60.0)
    maps = Endless()
    written.pages(maps, own("pagemap"))
    assert 0 < maps.taken <= written._MAPS + written._READ


def test_time_ends_it_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "_SECONDS", 0.0)
    maps = Endless()
    assert written.pages(maps, own("pagemap")) == ([], [])
    assert maps.taken == 0

"""Memory of a branch at rest is put together into huge pages, as far as that costs nobody anything."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import mmap
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.guest import hugepages, native
from kernel_runtime.guest.hugepages import HugePages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.guest.conftest import Host

_SIZE = 16 * MIB
_HUGE = 2 * MIB
_MADV_COLLAPSE = 25


class Area:
    """Private memory, a mapping of its own: what lies before and behind it is of another kind, and joins it not."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE + 2 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE)
        for edge in (0, _SIZE + mmap.PAGESIZE):
            self._memory.madvise(mmap.MADV_DONTFORK, edge, mmap.PAGESIZE)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory)) + mmap.PAGESIZE

    def touch(self, every: int) -> None:
        """Write to each so manieth page."""
        for place in range(mmap.PAGESIZE, mmap.PAGESIZE + _SIZE, every * mmap.PAGESIZE):
            self._memory[place] = 1

    def count(self) -> int:
        """Pages that hold what was written."""
        return self._memory[mmap.PAGESIZE : mmap.PAGESIZE + _SIZE : mmap.PAGESIZE].count(1)

    def huge(self) -> int:
        """Bytes of it in huge pages."""
        inside = False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            name, _, rest = line.partition(" ")
            if ":" not in name:
                inside = int(name.partition("-")[0], 16) == self.start
            elif inside and name == "AnonHugePages:":
                return int(rest.split()[0]) * 1024
        raise AssertionError("it is no mapping of its own")

    def stretches(self) -> set[int]:
        """Where huge pages can begin in it."""
        first = -(-self.start // _HUGE) * _HUGE
        return set(range(first, self.start + _SIZE - _HUGE + 1, _HUGE))


def _can_put_together() -> bool:
    """Asked without our own code, which must not be able to have its tests skipped."""
    with mmap.mmap(-1, 2 * _HUGE, flags=mmap.MAP_PRIVATE) as memory:
        for place in range(0, len(memory), mmap.PAGESIZE):
            memory[place] = 1
        try:
            memory.madvise(_MADV_COLLAPSE)
        except OSError:
            return False
    return True


needs_huge_pages = pytest.mark.skipif(
    not _can_put_together(), reason="needs a kernel with MADV_COLLAPSE (Linux 6.1)"
)


@pytest.fixture
def area() -> Area:
    return Area()


#: What a machine says that has no huge page to give at the moment.
_SHORT = {errno.ENOMEM, errno.EAGAIN}


class Asked:
    """What was asked to be put together, and what of it was: how much depends on the machine's free memory, and
    where that is in pieces it may be nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.for_: set[int] = set()
        self.had: set[int] = set()
        self._collapse = native.collapse
        monkeypatch.setattr(native, "collapse", self._noted)

    def _noted(self, start: int, size: int) -> None:
        self.for_.add(start)
        try:
            self._collapse(start, size)
        except OSError as error:
            assert error.errno in _SHORT, error
        else:
            self.had.add(start)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


class Rested:
    """A loop in which the branch rests, and its huge pages."""

    def __init__(self, *, allowed: bool = True) -> None:
        self.loop = asyncio.new_event_loop()
        self.idle = True
        self.pages = HugePages(self.loop, lambda: self.idle, allowed=allowed)

    def tend(self, touched: int = hugepages._TOUCHED) -> bool:
        """As after a request that touched so many pages; whether there is something to do."""
        self.pages._took = 0.0
        self.pages._faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - touched
        self.pages.tend()
        return self.pages._sweep is not None

    def until_done(self) -> None:
        async def main() -> None:
            while self.pages._sweep is not None:
                await asyncio.sleep(0.01)

        self.loop.run_until_complete(asyncio.wait_for(main(), 60))


@pytest.fixture
def rested() -> Iterator[Rested]:
    made = Rested()
    yield made
    made.loop.close()


@needs_huge_pages
def test_what_was_touched_lies_in_huge_pages_when_it_has_rested(
    area: Area, rested: Rested, asked: Asked
) -> None:
    area.touch(every=1)
    assert area.huge() == 0
    assert rested.tend()
    rested.until_done()
    assert area.stretches() <= asked.for_
    assert area.huge() >= len(area.stretches() & asked.had) * _HUGE
    assert area.count() == _SIZE // mmap.PAGESIZE


@needs_huge_pages
def test_what_a_copy_shares_stays_as_it_is(area: Area, rested: Rested, asked: Asked) -> None:
    area.touch(every=1)
    waiting, end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        os.read(waiting, 1)
        os._exit(0)
    rested.tend()
    rested.until_done()
    shared = area.huge(), area.stretches() & asked.for_
    os.close(end)
    os.waitpid(child, 0)
    os.close(waiting)
    rested.tend()
    rested.until_done()
    assert shared == (0, set())
    assert area.stretches() <= asked.for_, "the control"


@needs_huge_pages
def test_what_is_half_empty_is_not_filled(area: Area, rested: Rested) -> None:
    area.touch(every=2)
    rested.tend()
    rested.until_done()
    assert area.huge() == 0


def test_where_little_was_touched_nothing_is_looked_at(rested: Rested) -> None:
    assert not rested.tend(touched=hugepages._TOUCHED // 2)
    assert rested.tend()


def test_where_the_host_does_not_allow_it_nothing_happens() -> None:
    refused = Rested(allowed=False)
    assert not refused.tend()
    refused.loop.close()


def test_it_waits_while_something_runs(rested: Rested, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(hugepages, "_stretches", lambda: iter([1]))
    monkeypatch.setattr(hugepages, "_is_worth_it", lambda _: seen.append(rested.idle))
    rested.idle = False
    rested.tend()
    rested.loop.call_later(3 * hugepages._REST, setattr, rested, "idle", True)
    rested.until_done()
    assert seen == [True]


@pytest.mark.parametrize(("number", "tried"), [(errno.ENOMEM, 1), (errno.EAGAIN, 3)])
def test_where_memory_is_short_it_stops(
    number: int, tried: int, rested: Rested, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def collapse(start: int, _: int) -> None:
        calls.append(start)
        raise OSError(number, "no")

    monkeypatch.setattr(hugepages, "_stretches", lambda: iter([1, 2, 3]))
    monkeypatch.setattr(hugepages, "_is_worth_it", lambda _: True)
    monkeypatch.setattr(native, "collapse", collapse)
    rested.tend()
    rested.until_done()
    assert len(calls) == tried


#: In a guest, as ``Asked``.
NOTED = """
from kernel_runtime.guest import native
had, refused, collapse = 0, [], native.collapse
def noted(start, size):
    global had
    try:
        collapse(start, size)
        had += 1
    except OSError as error:
        refused.append(error.errno)
native.collapse = noted
"""


@needs_huge_pages
def test_objects_of_a_notebook_come_to_lie_in_huge_pages(new_guest: type[Host]) -> None:
    """How many of them depends on the machine's free memory; a few are asked for on any."""
    host = new_guest(huge_pages=True)
    try:
        before = _rolled_up(host.pid)
        host.run(f"{NOTED}\nkept = [{{'number': n}} for n in range(300_000)]")
        deadline = time.monotonic() + 60
        while int(str(host.run("had + len(refused)").result)) < 4 and time.monotonic() < deadline:
            time.sleep(0.3)  # it rests
        had, refused = host.get("had"), host.get("refused")
        assert had + len(refused) >= 4
        assert set(refused) <= _SHORT
        assert _rolled_up(host.pid) >= before + had * _HUGE
        assert host.run("sum(one['number'] for one in kept)").result == "44999850000"
    finally:
        host.close()


def _rolled_up(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("AnonHugePages:"):
            return int(line.split()[1]) * 1024
    return 0

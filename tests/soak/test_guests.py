"""Many guests started and ended by one front: nothing may be left, and the front may not grow."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

import pytest

from benchmarks.guests import run
from kernel_runtime.domain.amounts import MIB
from kernel_runtime.runtime import Runtime, Settings
from tests.soak.leaks import Count, amount, count, memory, settled, zygotes

if TYPE_CHECKING:
    from pathlib import Path

GUESTS = amount("KERNEL_RUNTIME_SOAK_GUESTS", 200)
_IN_FLIGHT = 4
_WARM_UP = 40
_TOLD = 100
_log = logging.getLogger(__name__)
#: What the allocator may keep: not the size of one guest, over thousands of them.
_GROWTH = 6 * MIB


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_nothing_is_left_of_many_guests(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    asyncio.run(_soak(tmp_path))


async def _soak(directory: Path) -> None:
    runtime = Runtime(Settings(workdir=str(directory), warm=()))
    try:
        await _guests(runtime, _WARM_UP)
        assert runtime.sessions == []
        before = await asyncio.to_thread(settled, os.getpid())
        sizes = [memory(os.getpid()), *map(memory, zygotes(os.getpid()))]
        await _guests(runtime, GUESTS)
        after = await _settled(runtime, before)
        assert after.is_as(before), (before, after)
        grown = [memory(os.getpid()), *map(memory, zygotes(os.getpid()))]
        assert all(now - then < _GROWTH for then, now in zip(sizes, grown, strict=True)), (sizes, grown)
    finally:
        await runtime.close()


async def _guests(runtime: Runtime, number: int) -> None:
    async def some() -> None:
        for done in range(number // _IN_FLIGHT):
            if done % _TOLD == 0:
                _log.info("about %d of %d guests", done * _IN_FLIGHT, number)
            session = runtime.open_session()
            assert await run(session, "open('left', 'w').write('x')") == "1"
            await runtime.close_session(session)

    await asyncio.gather(*(some() for _ in range(_IN_FLIGHT)))


async def _settled(runtime: Runtime, expected: Count) -> Count:
    """The count when the last ends have been noticed everywhere; the last one if it never fits."""
    assert runtime.sessions == []
    for _ in range(1200):
        found = count(os.getpid())
        if found.is_as(expected):
            break
        await asyncio.sleep(0.05)
    return found

"""Sessions of loops that end: nothing of theirs outlives them."""

from __future__ import annotations

import asyncio
import os

import psutil
import pytest

from kernel_runtime import AsyncSession


def _counts() -> tuple[int, int]:
    return len(psutil.Process().children(recursive=True)), len(os.listdir("/proc/self/fd"))


async def _closed() -> None:
    async with AsyncSession() as session:
        assert (await session.run("6 * 7")).result == "42"


async def _left_open() -> None:
    session = AsyncSession()
    await session.open()
    assert (await session.run("6 * 7")).result == "42"


@pytest.mark.parametrize("story", [_closed, _left_open])
def test_a_loop_that_ends_leaves_no_zygote(story) -> None:
    asyncio.run(story())  # what is imported late is there from now on
    before = _counts()
    for _ in range(2):
        asyncio.run(story())
    assert _counts() == before
    assert before[0] == 0

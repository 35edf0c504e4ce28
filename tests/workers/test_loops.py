"""Sessions of loops that end: nothing of theirs outlives them."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from kernel_runtime import AsyncSession


def _below() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


async def _closed() -> None:
    async with AsyncSession() as session:
        assert (await session.run("6 * 7")).result == "42"


async def _left_open() -> None:
    session = AsyncSession()
    await session.open()
    assert (await session.run("6 * 7")).result == "42"


@pytest.mark.parametrize("story", [_closed, _left_open])
def test_a_loop_that_ends_leaves_no_zygote(story) -> None:
    before = _below()  # of other tests
    for _ in range(2):
        asyncio.run(story())
        assert _below() <= before

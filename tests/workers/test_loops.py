"""Sessions of loops that end: nothing of theirs outlives them."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from kernel_runtime import AsyncSession
from kernel_runtime.client import runtimes


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


def test_each_runtime_is_closed_once_however_often_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A portal that closes lets go of the loop's holder, which asks once more meanwhile."""
    closed: list[str] = []

    class Slow:
        def __init__(self, name: str) -> None:
            self.name = name

        async def close(self) -> None:
            closed.append(self.name)
            await asyncio.sleep(0)

    async def twice() -> None:
        loop = id(asyncio.get_running_loop())
        monkeypatch.setattr(runtimes, "_runtimes", {(loop, name): Slow(name) for name in ("one", "two")})
        await asyncio.gather(runtimes.close_runtimes(), runtimes.close_runtimes())

    asyncio.run(twice())
    assert closed == ["one", "two"]

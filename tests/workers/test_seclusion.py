"""What waits for the end of a reading does not wait for one that was given up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from kernel_runtime.workers.seclusion import Seclusion
from kernel_runtime.workers.turns import Turns


class Silent:
    """A first process that carries nothing out."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    def seclude(self, *, over: bool = False) -> asyncio.Future[None]:
        self.asked.append(over)
        return asyncio.get_running_loop().create_future()


async def _gone() -> SimpleNamespace:
    return SimpleNamespace(link=SimpleNamespace(closed=True))


async def _story(interrupts: int) -> None:
    init = Silent()
    live = SimpleNamespace(turns=Turns(), init=init, resume=lambda: None)
    seclusion = Seclusion(live, SimpleNamespace(idle=lambda _: _gone()))

    async def read() -> None:
        async with seclusion.alone():
            raise AssertionError("it is not read before all else stands still")

    reading = asyncio.ensure_future(read())
    for turn in range(interrupts):
        while len(init.asked) <= turn:
            await asyncio.sleep(0)
        reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert init.asked == [False, True], "what stands still was told to go on"
    await asyncio.wait_for(seclusion.ended(), 10)
    assert not live.turns.are_taken


def test_given_up_twice_it_is_over() -> None:
    asyncio.run(_story(2))

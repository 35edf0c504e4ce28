"""Tasks that begin where they are made: as any other, but for their first step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from kernel_runtime.workers import eager

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
places = pytest.mark.parametrize("within", [False, True])


async def at_once(do: Callable[[], T], *, within: bool) -> T:
    """Done ``within`` a task, or by the loop itself, as when something is read."""
    if within:
        return do()
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    loop.call_soon(lambda: done.set_result(do()))
    return await done


@places
def test_what_never_waits_is_over_at_once(within: bool) -> None:
    tasks: list[object] = []

    async def work() -> None:
        tasks.append(asyncio.current_task())

    def do() -> bool:
        before = asyncio.current_task()
        task = eager.begun(work())
        assert tasks == [task]
        assert asyncio.current_task() is before
        return task.done()

    assert asyncio.run(at_once(do, within=within))


@places
def test_what_waits_goes_on_as_the_task_that_it_began_as(within: bool) -> None:
    story: list[object] = []

    async def work() -> None:
        task = asyncio.current_task()
        async with asyncio.timeout(60):  # which knows the task that it is entered in
            story.append("begun")
            await asyncio.sleep(0)
            story.append(asyncio.current_task() is task)

    def do() -> asyncio.Task[None]:
        task = eager.begun(work())
        assert story == ["begun"]
        assert not task.done()
        return task

    async def test() -> None:
        await (await at_once(do, within=within))

    asyncio.run(test())
    assert story == ["begun", True]


@places
def test_it_can_be_cancelled_before_its_next_step(within: bool) -> None:
    story: list[object] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            story.append("cleared")

    def do() -> asyncio.Task[None]:
        task = eager.begun(work())
        task.cancel()
        return task

    async def test() -> None:
        task = await at_once(do, within=within)
        await asyncio.wait([task])
        story.append(task.cancelled())

    asyncio.run(test())
    assert story == ["cleared", True]


@places
def test_what_fails_at_once_fails_as_a_task(within: bool) -> None:
    async def work() -> None:
        raise ZeroDivisionError

    failed = asyncio.run(at_once(lambda: eager.begun(work()).exception(), within=within))
    assert isinstance(failed, ZeroDivisionError)


class Crowded(asyncio.SelectorEventLoop):
    """While it is ``crowded``, another thread puts something in line behind whatever is put there."""

    crowded, put, done = False, 0, 0

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = super().call_soon(callback, *args, context=context)
        if self.crowded:
            self.put += 1
            super().call_soon(self.other)
        return handle

    def other(self) -> None:
        self.done += 1


def test_what_is_put_in_line_meanwhile_is_neither_lost_nor_done_twice() -> None:
    story: list[str] = []

    async def work() -> None:
        story.append("work")

    async def test() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Crowded)
        loop.crowded = True
        task = eager.begun(work())
        loop.crowded = False
        await task
        await asyncio.sleep(0)
        assert loop.done == loop.put

    with asyncio.Runner(loop_factory=Crowded) as runner:
        runner.run(test())
    assert story == ["work"]

"""Work that begins where it is made: as in any task, but for its first step."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from kernel_runtime.workers.eager import Starter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

T = TypeVar("T")
places = pytest.mark.parametrize("within", [False, True])
of_311 = pytest.mark.skipif(sys.version_info >= (3, 12), reason="asyncio's own eager tasks")
seen = contextvars.ContextVar("seen", default="nothing")


def played(story: Callable[[Starter], Coroutine[Any, Any, T]]) -> T:
    """With a starter that has begun something before, in its turn or at once."""

    async def test() -> T:
        starter = Starter()
        first = starter.begun(nothing())
        if first is not None:
            await first
        await asyncio.sleep(0)
        try:
            return await story(starter)
        finally:
            starter.close()

    return asyncio.run(test())


async def nothing() -> None: ...


async def at_once(do: Callable[[], T], *, within: bool) -> T:
    """Done ``within`` a task, or by the loop itself, as when something is read."""
    if within:
        return do()
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    loop.call_soon(lambda: done.set_result(do()))
    return await done


def going(task: asyncio.Task[None] | None) -> asyncio.Task[None]:
    """There is more to do."""
    assert task is not None
    assert not task.done()
    return task


@places
def test_what_never_waits_is_over_at_once_and_its_task_is_current_meanwhile(within: bool) -> None:
    tasks: list[object] = []

    async def work() -> None:
        tasks.append(asyncio.current_task())

    def do(starter: Starter) -> None:
        for count in (1, 2, 3):
            before = asyncio.current_task()
            assert starter.begun(work()) is None
            assert len(tasks) == count
            assert asyncio.current_task() is before
            assert tasks[-1] not in (None, before)

    async def story(starter: Starter) -> None:
        await at_once(lambda: do(starter), within=within)

    played(story)


def test_the_first_of_all_begins_too() -> None:
    """Whether at once or in its turn."""

    async def test() -> list[int]:
        done: list[int] = []

        async def work(number: int) -> None:
            done.append(number)

        starter = Starter()
        tasks = [starter.begun(work(number)) for number in range(3)]
        await asyncio.gather(*(task for task in tasks if task is not None))
        starter.close()
        return done

    assert asyncio.run(test()) == [0, 1, 2]


@places
def test_what_waits_goes_on_as_the_task_that_it_began_as(within: bool) -> None:
    said: list[object] = []

    async def work() -> None:
        task = asyncio.current_task()
        async with asyncio.timeout(60):  # which knows the task that it is entered in
            said.append("begun")
            await asyncio.sleep(0)
            said.append(asyncio.current_task() is task)
        said.append(await asyncio.gather(answer(), answer()))
        assert asyncio.current_task() is task

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    def do(starter: Starter) -> asyncio.Task[None]:
        task = going(starter.begun(work()))
        assert said == ["begun"]
        return task

    async def story(starter: Starter) -> None:
        await (await at_once(lambda: do(starter), within=within))

    played(story)
    assert said == ["begun", True, [42, 42]]


def test_one_that_waits_holds_up_no_other() -> None:
    async def story(starter: Starter) -> list[str]:
        gate, said = asyncio.Event(), []

        async def wait() -> None:
            await gate.wait()
            said.append("waited")

        async def say() -> None:
            said.append("said")

        waiting = [going(starter.begun(wait()))]
        await asyncio.sleep(0)
        waiting.append(going(starter.begun(wait())))
        assert waiting[0] is not waiting[1]
        await asyncio.sleep(0)
        assert starter.begun(say()) is None
        gate.set()
        await asyncio.gather(*waiting)
        return said

    assert played(story) == ["said", "waited", "waited"]


def test_a_timeout_that_was_entered_in_the_first_step_ends_what_is_awaited() -> None:
    async def story(starter: Starter) -> tuple[str, bool]:
        said: list[str] = []
        future = asyncio.get_running_loop().create_future()

        async def work() -> None:
            try:
                async with asyncio.timeout(0):
                    await future
            except TimeoutError:
                said.append("too late")

        await going(starter.begun(work()))
        return said[0], future.cancelled()

    assert played(story) == ("too late", True)


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_it_can_be_cancelled_before_its_next_step_and_later(turns: int) -> None:
    """What it waits for is, too."""

    async def story(starter: Starter) -> None:
        said: list[object] = []
        future = asyncio.get_running_loop().create_future()

        async def work() -> None:
            try:
                await future
            except asyncio.CancelledError as error:
                said.append(error.args)
                raise
            finally:
                await asyncio.sleep(0)
                said.append(current().cancelling())

        task = going(starter.begun(work()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel("enough")
        await asyncio.wait([task])
        assert (said, task.cancelled(), future.cancelled()) == ([("enough",), 1], True, True)

    played(story)


def current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


@pytest.mark.parametrize("waits", [lambda: asyncio.sleep(0), lambda: asyncio.sleep(60)], ids=["turn", "time"])
def test_it_can_cancel_itself_at_once(waits: Callable[[], Awaitable[None]]) -> None:
    async def story(starter: Starter) -> bool:
        async def work() -> None:
            current().cancel()
            await waits()

        task = going(starter.begun(work()))
        await asyncio.wait([task])
        return task.cancelled()

    assert played(story)


def test_who_cancels_itself_and_is_over_cancels_nobody_else() -> None:
    async def story(starter: Starter) -> list[int]:
        done: list[int] = []

        async def work(number: int) -> None:
            if number == 1:
                current().cancel()
            done.append(current().cancelling())

        for number in range(4):
            task = starter.begun(work(number))
            if task is not None:
                await task
            await asyncio.sleep(0)
        return done

    assert played(story) == [0, 1, 0, 0]


@places
@pytest.mark.parametrize("kind", [ZeroDivisionError, asyncio.CancelledError])
def test_what_fails_at_once_fails_as_a_task_and_alone(kind: type[BaseException], within: bool) -> None:
    said: list[str] = []

    async def fail() -> None:
        raise kind

    async def say() -> None:
        said.append("said")

    async def story(starter: Starter) -> None:
        loop, told = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, about: told.append(type(about.get("exception"))))
        task = await at_once(lambda: starter.begun(fail()), within=within)
        if task is not None:
            await asyncio.wait([task])
            del task
        gc.collect()  # asyncio's own eager tasks wait for it
        assert told == ([kind] if issubclass(kind, Exception) else [])  # as of any task that nobody asked
        assert starter.begun(say()) is None

    played(story)
    assert said == ["said"]


def test_what_is_set_in_a_context_stays_with_the_work_that_set_it() -> None:
    async def story(starter: Starter) -> list[str]:
        values: list[str] = []

        async def work(number: int, waits: bool) -> None:
            values.append(seen.get())
            seen.set(f"by {number}")
            if waits:
                await asyncio.sleep(0)
                values.append(seen.get())

        seen.set("outside")
        for number, waits in enumerate((False, False, True, False)):
            task = starter.begun(work(number, waits))
            if task is not None:
                await task
            await asyncio.sleep(0)
        return [*values, seen.get()]

    assert played(story) == ["outside", "outside", "outside", "by 2", "outside", "outside"]


def test_what_begins_within_another_one_is_begun_too() -> None:
    async def story(starter: Starter) -> set[str]:
        said: set[str] = set()
        inner: list[asyncio.Task[None]] = []

        async def say(word: str) -> None:
            said.add(word)

        async def work() -> None:
            task = starter.begun(say("inner"))
            inner.extend([task] if task is not None else [])
            said.add("outer")

        assert starter.begun(work()) is None
        await asyncio.gather(*inner)
        return said

    assert played(story) == {"inner", "outer"}


class Thing:
    """Kept by work."""


@pytest.fixture
def _uncollected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_uncollected")
@pytest.mark.parametrize(
    "end",
    [
        pytest.param("fails at once", marks=of_311),
        "fails later",
        "is cancelled at once",
        "is cancelled later",
    ],
)
def test_what_failed_or_was_cancelled_is_let_go_without_the_collector(end: str) -> None:
    async def story(starter: Starter) -> None:
        things: list[weakref.ref[Thing]] = []

        async def work() -> None:
            thing = Thing()
            things.append(weakref.ref(thing))
            if end == "fails at once":
                raise ZeroDivisionError
            await asyncio.sleep(0)
            if end == "fails later":
                raise ZeroDivisionError
            await asyncio.get_running_loop().create_future()

        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        task = starter.begun(work())
        if task is not None:
            for _ in range(3 if end == "is cancelled later" else 0):
                await asyncio.sleep(0)
            if "cancelled" in end:
                task.cancel()
            await asyncio.wait([task])
        assert len(things) == 1
        del task
        assert things[0]() is None

    played(story)


@of_311
def test_whoever_cancels_all_tasks_finds_another_one_ready() -> None:
    async def story(starter: Starter) -> list[str]:
        said: list[str] = []

        async def say() -> None:
            said.append("said")

        others = asyncio.all_tasks() - {current()}
        assert others  # the control: one is kept ready
        for task in others:
            task.cancel()
        for _ in range(3):
            going_on = starter.begun(say())
            if going_on is not None:
                await going_on
            await asyncio.sleep(0)
        assert starter.begun(say()) is None
        return said

    assert played(story) == ["said"] * 4


def test_nothing_is_left_when_it_is_closed() -> None:
    async def story(starter: Starter) -> int:
        starter.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert played(story) == 1

"""What is asked of a session while another state is brought back waits, in its order, and runs in that state."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

import kernel_runtime
from kernel_runtime import wire
from kernel_runtime.domain.errors import Conflict, GuestCodeError, GuestLost, KernelRuntimeError
from kernel_runtime.workers import causes
from kernel_runtime.workers.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from kernel_runtime.workers.session import Session as Inner

SECONDS = 60


class Held:
    """A session's going over, held up until it is let go; with ``error`` it fails then."""

    def __init__(self, inner: Inner, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()
        switch = inner._switch

        async def held(*arguments: Any) -> Any:
            self.begun.set()
            await self.let_go.wait()
            if error is not None:
                raise error
            return await switch(*arguments)

        monkeypatch.setattr(inner, "_switch", held)

    async def begin(self, going: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """The task, when it goes over."""
        task = asyncio.ensure_future(going)
        await asyncio.wait([task, asyncio.ensure_future(self.begun.wait())], return_when="FIRST_COMPLETED")
        assert not task.done()
        return task


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[tuple[kernel_runtime.AsyncSession, Inner]]:
    """A session whose ``x`` was 1 when the snapshot ``one`` was made, and is 2 now."""
    async with (
        asyncio.timeout(SECONDS),
        kernel_runtime.AsyncSession(workdir=directory, memory="512M") as session,
    ):
        assert session._session is not None
        await session.run("x = 1")
        await session.snapshot("one")
        await session.run("x = 2")
        yield session, session._session


async def begin(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """The task, when it waits."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def completed(inner: Inner) -> bytes:
    """What the guest completes of ``x_``."""
    said: list[bytes] = []
    content = b'{"code": "x_", "cursor_pos": 2}'
    request = wire.Request(id="complete", kind="complete_request", content=content)
    await inner.submit(
        request, lambda frame: said.append(frame.content) if isinstance(frame, wire.Reply) else None
    )
    return said[0]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


@pytest.mark.parametrize(
    "way", ["restore", *(pytest.param(way, marks=pytest.mark.slow) for way in ("undo", "redo", "branch"))]
)
def test_what_is_asked_meanwhile_runs_in_the_state_that_comes_back(directory: Path, way: str) -> None:
    async def test() -> None:
        async with opened(directory) as (session, inner):
            if way == "redo":
                await session.run("x = 1")
                await session.undo()
            if way == "branch":
                await session.branch("other")
                await session.run("x = 1")
                await session.branch("main")
            target = {"restore": ["one"], "branch": ["other"]}.get(way, [])
            assert await session.value("x") == 2
            going = await begin(getattr(session, way)(*target))
            asked = [
                session.snapshot("back"),
                session.run("x_seen = x; x += 10; print(x)"),
                session.value("x"),
                session.put("y", "put"),
                completed(inner),
                session.run("print(x, y)"),
            ]
            _, _, first, value, _, names, last = await asyncio.gather(going, *asked)
            assert (first.stdout, value, last.stdout) == ("11\n", 11, "11 put\n")
            assert b"x_seen" in names
            await session.restore("back")
            assert await session.value("x") == 1

    run(test)


def test_if_it_fails_what_waits_runs_in_the_present_state(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with opened(directory) as (session, inner):
            held = Held(inner, monkeypatch, GuestLost(causes.ended("as the test wants it")))
            going = await held.begin(session.restore("one"))
            cell = await begin(session.run("x += 10"))
            held.let_go.set()
            with pytest.raises(GuestLost):
                await going
            await cell
            assert await session.value("x") == 12

    run(test)


def test_what_was_asked_before_is_answered_first(directory: Path) -> None:
    async def test() -> None:
        async with opened(directory) as (session, _):
            await session.run("class Slow:\n    def __len__(self): pass\nbig = ['a' * 100] * 50_000")
            await session.run("x = 3")
            asked = await begin(session.value("big"))
            redo = await session.undo()
            assert redo.snapshot.cell == 3
            assert len(await asked) == 50_000
            back = await begin(session.value("big"))  # redo leaves without a copy of what it leaves
            await session.redo()
            assert len(await back) == 50_000

    run(test)


def test_a_snapshot_that_is_just_made_is_there_before_another_state_comes_back(directory: Path) -> None:
    async def test() -> None:
        async with opened(directory) as (session, _):
            for number in range(10):
                await session.run("x = 3")
                await asyncio.gather(session.snapshot(f"three{number}"), session.restore("one"))
                assert await session.value("x") == 1
                await session.restore(f"three{number}")
                assert await session.value("x") == 3

    run(test)


def test_two_that_go_over_do_so_one_after_the_other(directory: Path) -> None:
    async def test() -> None:
        async with opened(directory) as (session, _):
            await session.run("x = 3")
            await asyncio.gather(session.undo(), session.undo())
            assert await session.value("x") == 1

    run(test)


def test_a_cell_that_waits_can_be_interrupted(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with opened(directory) as (session, inner):
            held = Held(inner, monkeypatch)
            going = await held.begin(session.restore("one"))
            value = await begin(session.value("x"))
            first, second = await begin(session.run("x += 10")), await begin(session.run("x += 100"))
            session.interrupt()
            with pytest.raises(GuestCodeError, match="KeyboardInterrupt: interrupted before it began"):
                await first
            held.let_go.set()
            await asyncio.gather(going, second)
            assert (await value, await session.value("x")) == (1, 101)

    run(test)


def test_closing_ends_what_waits(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with opened(directory) as (session, inner):
            held = Held(inner, monkeypatch)
            going = await held.begin(session.restore("one"))
            asked = [await begin(work) for work in (session.run("x"), session.value("x"), session.restart())]
            await session.close()
            held.let_go.set()
            done = await asyncio.gather(going, *asked, return_exceptions=True)
            assert all(isinstance(error, KernelRuntimeError) for error in done), done
            assert all(isinstance(error, Conflict) for error in done[1:]), done

    run(test)


def test_if_the_present_state_is_killed_what_is_brought_back_comes(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the newest snapshot, which would take its place otherwise."""

    async def test() -> None:
        async with opened(directory) as (session, inner):
            await session.run("x = 3")
            held = Held(inner, monkeypatch)
            lost = inner._branch
            going = await held.begin(session.restore("one"))
            cell = await begin(session.run("print(x)"))
            await session.kill()
            while inner._branch is lost:
                await asyncio.sleep(0.01)
            held.let_go.set()
            await going
            assert (await cell).stdout == "1\n"

    run(test)


def test_restarting_and_pausing_come_after_it(directory: Path) -> None:
    async def test() -> None:
        async with opened(directory) as (session, _):
            going = await begin(session.restore("one"))
            pause, cell = await begin(session.pause()), await begin(session.run("print(x)"))
            await asyncio.gather(going, pause)
            assert (await cell).stdout == "1\n"
            going, restart = await begin(session.restore("one")), await begin(session.restart())
            after = await begin(session.run("print('x' in dir())"))
            await asyncio.gather(going, restart)
            assert (await after).stdout == "False\n"

    run(test)


def test_a_session_that_goes_over_is_not_paused_for_being_idle(directory: Path) -> None:
    async def test() -> None:
        async with opened(directory) as (session, inner):
            going = await begin(session.restore("one"))
            inner.idle.look()
            await going
            assert (await session.run("print(x)")).stdout == "1\n"
            assert not inner.paused
            inner.idle.look()
            assert inner.idle.pausing is not None
            await inner.idle.pausing
            assert inner.paused

    run(test)


def test_turns_come_in_order_and_an_interrupt_ends_the_first_waiting_cell() -> None:
    async def test() -> None:
        turns, seen = Turns(), []
        let_go = asyncio.Event()

        async def ask(name: str, *, cell: bool = False, first: bool = False) -> None:
            async with turns.turn(cell=cell) as turn:
                if first:
                    await let_go.wait()
                turn.check()
                seen.append(name)

        tasks = [await begin(ask("a", first=True))]
        tasks += [await begin(ask(name, cell=name != "b")) for name in "bcd"]
        turns.interrupt()
        tasks.append(await begin(ask("e")))
        let_go.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert (seen, turns.are_taken) == (["a", "b", "d", "e"], False)
        assert isinstance(done[2], asyncio.CancelledError)

    run(test)


def test_a_turn_that_comes_while_its_task_is_cancelled_goes_on_to_the_next() -> None:
    async def test() -> None:
        turns, seen = Turns(), []

        async def ask(name: str) -> None:
            async with turns.turn():
                await asyncio.sleep(0)
                seen.append(name)

        first, second, third = [asyncio.ensure_future(ask(name)) for name in "abc"]
        await first
        second.cancel()
        await third
        assert (seen, turns.are_taken) == (["a", "c"], False)

    run(test)


def test_an_interrupt_reaches_a_cell_whose_turn_has_come_and_whose_guest_has_not() -> None:
    async def test() -> None:
        turns = Turns()
        async with turns.turn(cell=True) as turn:
            turns.interrupt()
            with pytest.raises(asyncio.CancelledError):
                turn.check()

    run(test)

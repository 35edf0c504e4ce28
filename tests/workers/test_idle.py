"""A session of which nothing is asked for a while is paused, and so is one that a person pauses: nothing is lost by it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

import kernel_runtime
from kernel_runtime.domain.errors import Conflict
from kernel_runtime.workers import durable, turns
from kernel_runtime.workers.checkpoints import receive_checkpoint
from kernel_runtime.workers.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from kernel_runtime.workers.session import Session as Inner

SECONDS = 12
#: So short that it is over many times while anything is done.
IDLE = 0.05


@asynccontextmanager
async def opened(
    idle: str | float | None = None, **terms: Any
) -> AsyncIterator[tuple[kernel_runtime.AsyncSession, Inner]]:
    """A session that is paused when nothing was asked of it for ``idle`` seconds."""
    async with (
        asyncio.timeout(SECONDS),
        kernel_runtime.AsyncSession(memory="512M", workdir=None, idle=idle, **terms) as session,
    ):
        yield session, session.watched


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


async def until_paused(inner: Inner) -> None:
    while not inner.paused:
        await asyncio.sleep(0.01)


class Writing:
    """The checkpoint that is being written: it goes on when it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()

        async def receive(*arguments: Any) -> Any:
            self.begun.set()
            await self.let_go.wait()
            return await receive_checkpoint(*arguments)

        monkeypatch.setattr(durable, "receive_checkpoint", receive)


def test_it_is_paused_once_nothing_is_asked_of_it() -> None:
    async def test() -> None:
        async with opened(IDLE) as (session, inner):
            await session.run("x = 1")
            await until_paused(inner)
            assert (await session.run("print(x)")).stdout == "1\n"

    run(test)


@pytest.mark.parametrize("idle", [None, 0.0])
def test_without_a_time_it_never_is(idle: float | None) -> None:
    async def test() -> None:
        async with opened(idle) as (session, inner):
            await session.run("x = 1")
            assert inner.idle._timer is None

    run(test)


def test_it_is_asked_for_with_a_session() -> None:
    with kernel_runtime.Session(memory="512M", workdir=None, idle="30m") as session:
        assert (session.idle, session._session.watched.terms.idle) == (1800.0, 1800.0)
    assert kernel_runtime.Session(idle=0).idle is None


def test_a_cell_that_takes_longer_is_none_that_is_idle() -> None:
    async def test() -> None:
        async with opened(IDLE) as (session, inner):
            result = await session.run(f"import time; time.sleep({10 * IDLE}); print(1)")
            assert result.stdout == "1\n"
            await until_paused(inner)

    run(test)


def test_the_time_begins_at_the_end_of_a_cell() -> None:
    async def test() -> None:
        async with opened(SECONDS, automatic=False) as (session, inner):
            timers: list[Any] = []
            await session.run("print(1)", on_output=lambda _: timers.append(inner.idle._timer))
            assert timers[0] is not None
            assert timers[0].cancelled()
            assert inner.idle._timer not in (None, *timers)

    run(test)


WAKING: dict[str, Callable[[kernel_runtime.AsyncSession], Coroutine[Any, Any, Any]]] = {
    "a value": lambda session: session.value("x"),
    "a snapshot": lambda session: session.snapshot(),
    "going back": lambda session: session.undo(),
    "a checkpoint": lambda session: session.checkpoint(),
    "a person": lambda session: session.resume(),
}


@pytest.mark.parametrize("what", WAKING)
def test_it_is_paused_again_whatever_it_was_woken_for(what: str) -> None:
    async def test() -> None:
        async with opened(IDLE, name=f"woken for {what}") as (session, inner):
            await session.run("x = 1")
            await session.run("y = 1")
            for _ in range(2):
                await until_paused(inner)
                await WAKING[what](session)
            await until_paused(inner)

    run(test)


@pytest.mark.parametrize("what", WAKING)
def test_the_time_begins_anew_whatever_is_asked(what: str) -> None:
    async def test() -> None:
        async with opened(SECONDS, name=f"asked {what}") as (session, inner):
            await session.run("x = 1")
            await session.run("y = 1")
            timer = inner.idle._timer
            await WAKING[what](session)
            assert timer is not None
            assert timer.cancelled()
            assert inner.idle._timer not in (None, timer)

    run(test)


def test_what_comes_after_its_end_is_paused_too() -> None:
    async def test() -> None:
        async with opened(IDLE) as (session, inner):
            await session.run("x = 1")
            await until_paused(inner)
            os.kill(inner.pid, signal.SIGKILL)
            while inner.paused:
                await asyncio.sleep(0.01)
            await until_paused(inner)

    run(test)


def test_a_closed_session_is_waited_for_no_longer() -> None:
    async def test() -> None:
        async with opened(SECONDS) as (session, inner):
            await session.run("x = 1")
            timer = inner.idle._timer
        assert timer is not None
        assert timer.cancelled()

    run(test)


def test_a_checkpoint_is_written_before_it_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with opened(IDLE, name="written before idle") as (session, inner):
            await session.run("rows = [{'id': n, 'tags': [n]} for n in range(100_000)]")
            writing = Writing(monkeypatch)
            saving = asyncio.ensure_future(session.checkpoint())
            await writing.begun.wait()
            inner.idle.look()
            assert inner.idle.pausing is None or inner.idle.pausing.done()
            assert not inner.paused
            writing.let_go.set()
            assert "rows" in (await saving).names
            await until_paused(inner)

    run(test)


def test_a_person_who_pauses_waits_for_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with opened(name="written before paused") as (session, inner):
            await session.run("x = 1")
            writing = Writing(monkeypatch)
            saving = asyncio.ensure_future(session.checkpoint())
            await writing.begun.wait()
            pausing = asyncio.ensure_future(session.pause())
            assert (await session.run("print(x)")).stdout == "1\n", "it goes on meanwhile"
            assert not inner.paused
            writing.let_go.set()
            assert "x" in (await saving).names
            await pausing
            assert inner.paused

    run(test)


def test_a_person_who_pauses_is_told_that_it_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(turns, "ALONE_SECONDS", IDLE)
        async with opened(name="written for long") as (session, inner):
            await session.run("x = 1")
            writing = Writing(monkeypatch)
            saving = asyncio.ensure_future(session.checkpoint())
            await writing.begun.wait()
            with pytest.raises(
                Conflict, match=r"a checkpoint is still being written.*try again when that is over"
            ):
                await session.pause()
            writing.let_go.set()
            assert "x" in (await saving).names
            assert await session.value("x") == 1
            assert not inner.paused

    run(test)


def test_a_snapshot_that_is_read_is_waited_for() -> None:
    async def test() -> None:
        async with opened(IDLE) as (session, inner):
            await session.run("x = 1")
            await session.snapshot("one")
            async with inner.snapshots.frozen("one") as ((_, frozen),):
                inner.idle.look()
                pausing = asyncio.ensure_future(session.pause())
                assert await frozen.read("files", list[str]) == []
                assert not inner.paused
            await pausing
            assert inner.paused

    run(test)


def test_a_checkpoint_is_brought_back_into_a_paused_session() -> None:
    async def test() -> None:
        async with opened(name="brought back when paused", automatic=False) as (session, _):
            await session.run("x = 1")
            kept = await session.checkpoint()
            await session.run("x = 2")
            await session.pause()
            await session.load(kept.id)
            assert await session.value("x") == 1

    run(test)


def test_a_paused_cell_obeys_an_interrupt() -> None:
    async def test() -> None:
        async with opened() as (session, inner):
            begun = asyncio.Event()
            code = "import time\nx = 1\nprint('begun', flush=True)\nwhile True: time.sleep(0.01)"
            cell = asyncio.ensure_future(session.run(code, check=False, on_output=lambda _: begun.set()))
            await begun.wait()
            await session.pause()
            session.interrupt()
            result = await cell
            assert result.error is not None
            assert (result.error.ename, result.verdict) == ("KeyboardInterrupt", None)
            assert await session.value("x") == 1
            assert not inner.paused

    run(test)


def test_a_turn_alone_waits_outside_of_the_line_and_again_for_what_came_before_it() -> None:
    async def test() -> None:
        line, seen = Turns(), []

        async def alone() -> None:
            async with line.turn_alone():
                seen.append("alone")

        with line.beside(), line.beside():
            waiting = asyncio.ensure_future(alone())
            await asyncio.sleep(0)
            async with line.turn():
                seen.append("a copy's")
        async with line.turn():
            await asyncio.sleep(0)  # it is in line now
            again = line.beside()
            again.__enter__()
        await asyncio.sleep(0)
        seen.append("again")
        again.__exit__(None, None, None)
        await waiting
        assert (seen, line.are_taken) == (["a copy's", "again", "alone"], False)

    run(test)

"""Checkpoints that nobody asked for: when there is one, and what it holds."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

import kernel_runtime
from kernel_runtime.domain.errors import Conflict
from kernel_runtime.domain.snapshot import Saving
from kernel_runtime.runtime import Runtime, Settings
from kernel_runtime.workers import durable
from kernel_runtime.workers.checkpoints import receive_checkpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kernel_runtime.workers.session import Session

_HOUR = 3600.0


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


class Clock:
    """What ``durable`` takes for the time: it passes when a test says so."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(durable, "time", clock)
    return clock


@asynccontextmanager
async def opened(saving: Saving) -> AsyncIterator[tuple[kernel_runtime.AsyncSession, Session]]:
    runtime = Runtime(Settings(warm=()))
    try:
        session = kernel_runtime.AsyncSession()
        session._runtime, session._session = runtime, runtime.open_session(key="book", saving=saving)
        yield session, session._session
    finally:
        await runtime.close()


async def pass_by(inner: Session, clock: Clock, seconds: float) -> None:
    """So much time passes, in which nothing is asked: the timer sees to what is due, if there is one."""
    clock.ahead += seconds
    if inner.durable._timer is not None:
        inner.durable._timer._run()  # type: ignore[attr-defined]
    if inner.durable._automatic is not None:
        await inner.durable._automatic


async def names(inner: Session) -> list[str] | None:
    newest = await inner.durable.newest()
    return None if newest is None else newest.names


def test_so_long_after_the_last_one_though_no_cell_ends(clock: Clock) -> None:
    async def story() -> None:
        async with opened(Saving(every=_HOUR)) as (session, inner):
            await pass_by(inner, clock, 2 * _HOUR)
            assert await names(inner) is None  # there is nothing to keep
            await session.run("x = 1")
            await pass_by(inner, clock, 0)
            assert await names(inner) == ["x"]  # the hours before were long enough
            await session.run("y = 2")
            await pass_by(inner, clock, _HOUR / 2)
            assert await names(inner) == ["x"]
            await pass_by(inner, clock, _HOUR)
            assert await names(inner) == ["x", "y"]
            assert inner.durable._timer is None
            newest = await inner.durable.newest()
            await pass_by(inner, clock, 9 * _HOUR)
            assert await inner.durable.newest() == newest

    asyncio.run(story())


def test_the_timer_waits_for_the_rest_and_is_closed_with_the_session(clock: Clock) -> None:
    async def story() -> None:
        async with opened(Saving(every=_HOUR)) as (session, inner):
            clock.ahead += _HOUR / 2
            await session.run("x = 1")
            timer = inner.durable._timer
            assert timer is not None
            left = timer.when() - asyncio.get_running_loop().time()
            assert _HOUR / 4 < left <= _HOUR / 2
            kept = inner.durable
        assert timer.cancelled()
        assert kept._timer is kept._automatic is None

    asyncio.run(story())


def test_none_while_a_cell_runs_but_when_it_has_ended(clock: Clock) -> None:
    async def story() -> None:
        async with opened(Saving(every=_HOUR)) as (session, inner):
            await session.run("x = 1")
            begun = asyncio.Event()
            running = asyncio.ensure_future(
                session.run(
                    "y = 2; print(1, flush=True); input()", on_output=lambda _: begun.set(), on_input=wait
                )
            )
            await asyncio.wait_for(begun.wait(), 60)
            await pass_by(inner, clock, 2 * _HOUR)
            assert await names(inner) is None
            go.set()
            await running
            await pass_by(inner, clock, 0)
            assert await names(inner) == ["x", "y"]
            assert inner.durable.trouble == ""

    go = threading.Event()

    def wait(*_: object) -> str:
        go.wait(60)
        return ""

    asyncio.run(story())


def test_a_cell_that_ran_while_one_was_written_is_not_taken_for_kept(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with opened(Saving(every=_HOUR)) as (session, inner):

            async def receive(*arguments: object) -> object:
                await session.run("y = 2")
                return await original(*arguments)  # type: ignore[arg-type]

            original = durable.receive_checkpoint
            await session.run("x = 1")
            with monkeypatch.context() as patch:
                patch.setattr(durable, "receive_checkpoint", receive)
                await pass_by(inner, clock, _HOUR)
            assert await names(inner) == ["x"]
            await asyncio.sleep(0)
            await pass_by(inner, clock, _HOUR)
            assert await names(inner) == ["x", "y"]

    asyncio.run(story())


def test_a_paused_session_is_written_and_stays_paused(clock: Clock) -> None:
    async def story() -> None:
        async with opened(Saving(every=_HOUR)) as (session, inner):
            await session.run("x = 1")
            await inner.pause()
            await pass_by(inner, clock, _HOUR)
            assert await names(inner) == ["x"]
            assert inner.paused
            assert (await session.run("x")).result == "1"
            assert not inner.paused

    asyncio.run(story())


def test_a_program_says_when_and_how_many_are_kept() -> None:
    async def story() -> None:
        saving = kernel_runtime.Saving(cells=1, retention=kernel_runtime.Retention(count=2))
        async with kernel_runtime.AsyncSession(workdir=None, name="programs-own", saving=saving) as session:
            for number in range(3):
                await session.run(f"x = {number}")
                made = session.watched.durable._automatic
                assert made is not None
                await made
            store = session.watched.durable._store(False)
            assert len(store.checkpoints("programs-own")) == 2
            await session.run("x = 9")
            assert (await session.load(store.checkpoints("programs-own")[0].id)).names == ["x"]
        async with kernel_runtime.AsyncSession(workdir=None, name="control") as session:
            await session.run("x = 1")
            assert session.watched.durable._automatic is session.watched.durable._timer is None

    asyncio.run(story())


def test_a_blocking_session_hands_it_on() -> None:
    saving = Saving(every=_HOUR)
    assert kernel_runtime.Session(saving=saving)._session._saving is saving


def test_made_by_itself_after_so_many_cells() -> None:
    async def story() -> None:
        async with opened(Saving(cells=2)) as (session, inner):
            await session.run("x = 1")
            assert await names(inner) is None
            await session.run("x = 2")
            assert inner.durable._automatic is not None
            await inner.durable._automatic
            newest = await inner.durable.newest()
            assert newest is not None
            assert newest.names == ["x"]
            assert "%restore" in await inner.offer()
            assert inner.checkpoint_titles == [newest.id]
            kept = await inner.checkpoint("later")
            assert inner.checkpoint_titles == [kept.label, newest.id]

    asyncio.run(story())


SLOW = "import time\nclass Slow:\n    def __reduce__(self):\n        time.sleep(600)\nslow = Slow()"


def test_one_that_is_being_written_when_another_state_comes_back_is_made_of_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writing = asyncio.Event()

    async def receive(*arguments: Any) -> Any:
        writing.set()
        return await receive_checkpoint(*arguments)

    monkeypatch.setattr(durable, "receive_checkpoint", receive)

    async def story() -> None:
        async with opened(Saving(cells=2)) as (session, inner):
            await session.run("x = 1")
            await session.run(SLOW)
            await asyncio.wait_for(writing.wait(), 60)
            await session.undo()
            assert inner.durable._automatic is not None
            await asyncio.wait_for(inner.durable._automatic, 60)
            assert await names(inner) == ["x"]
            assert inner.durable.trouble == ""
            writing.clear()
            await session.redo()
            asked = asyncio.ensure_future(session.checkpoint("mine"))
            await asyncio.wait_for(writing.wait(), 60)
            await session.undo()
            with pytest.raises(Conflict, match="another state was brought back"):
                await asked

    asyncio.run(story())

"""Ready guests: each handed out once, replaced when it is gone, ended when nobody wants it."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kernel_runtime.client import AsyncSession
from kernel_runtime.domain.errors import GuestLost
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits
from kernel_runtime.runtime import Runtime, Settings, default_settings
from kernel_runtime.workers.launch import BARE
from kernel_runtime.workers.pool import Pool
from kernel_runtime.workers.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

TERMS = Terms(level=Level.MODERATE, limits=Limits(), workdir=None, cwd="/", env={"LANG": "C.UTF-8"})


class Fake:
    """A session as the pool sees it."""

    def __init__(self, terms: Terms, *, hangs: bool = False, fails: bool = False) -> None:
        self.terms = terms
        self.stands = False
        self.closed = False
        self._hangs = hangs
        self._fails = fails

    async def ready(self) -> None:
        if self._hangs:
            await asyncio.get_running_loop().create_future()
        if self._fails:
            raise GuestLost(None)
        self.stands = True

    def hand_over(self, terms: Terms) -> None:
        self.terms = terms

    async def close(self) -> None:
        self.stands = False
        self.closed = True


class World:
    """A pool over fakes; ``begun`` are those it has made."""

    def __init__(self, size: int = 1, *, keep: float = 1000.0, **options: bool) -> None:
        self.begun: list[Fake] = []
        self.unfit: set[Fake] = set()
        self.options = options
        self.pool = Pool(size, self._begin, lambda one: one not in self.unfit, quiet=0.0, keep=keep)

    def _begin(self, terms: Terms, _: object) -> Any:
        self.begun.append(Fake(terms, **self.options))
        return self.begun[-1]

    def take(self, terms: Terms = TERMS) -> Any:
        return self.pool.take(terms, None)

    async def filled(self, count: int = 1) -> None:
        await until(lambda: len(self.pool.waiting) == count)


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.005)


def tell(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(story())


def test_the_second_who_asks_begins_it_and_nobody_gets_what_another_has() -> None:
    async def story() -> None:
        world = World(size=2)
        assert world.take() is None
        await asyncio.sleep(0)
        assert world.begun == [], "one session alone costs no other"
        assert world.take() is None
        await world.filled(2)
        taken = [world.take(), world.take()]
        assert taken == world.begun[:2]
        assert world.take() is None
        await world.filled(2)
        assert world.take() not in taken
        await world.pool.close()

    tell(story)


def test_a_pool_of_none_makes_none() -> None:
    async def story() -> None:
        world = World(size=0)
        for _ in range(5):
            assert world.take() is None
            await asyncio.sleep(0)
        assert world.begun == []
        await world.pool.close()

    tell(story)


def test_only_the_name_may_differ() -> None:
    other = msgspec.structs.replace(TERMS, limits=Limits(memory=2**28))

    async def story() -> None:
        world = World()
        world.take()
        world.take(msgspec.structs.replace(TERMS, name="first"))
        await world.filled()
        assert world.take(other) is None
        assert world.pool.take(TERMS, "landlock") is None
        assert world.take(msgspec.structs.replace(TERMS, env={"LANG": "C"})) is None
        named = world.take(msgspec.structs.replace(TERMS, name="second"))
        assert named is world.begun[0]
        assert named.terms.name == "second"
        await world.pool.close()

    tell(story)


@pytest.mark.parametrize("how", ["dead", "unfit"])
def test_one_that_is_no_longer_good_is_ended_and_replaced(how: str) -> None:
    async def story() -> None:
        world = World()
        world.take()
        world.take()
        await world.filled()
        bad = world.begun[0]
        if how == "dead":
            bad.stands = False
        else:
            world.unfit.add(bad)
        assert world.take() is None
        await until(lambda: bad.closed)
        await world.filled()
        assert world.take() is world.begun[1]
        await world.pool.close()

    tell(story)


def test_what_nobody_takes_is_ended_and_not_made_again() -> None:
    async def story() -> None:
        world = World(keep=0.05)
        world.take()
        world.take()
        await until(lambda: bool(world.begun) and world.begun[0].closed)
        assert world.pool.waiting == []
        assert world.take() is None, "its terms are forgotten: this is the first who asks"
        await asyncio.sleep(0.01)
        assert len(world.begun) == 1
        await world.pool.close()

    tell(story)


def test_terms_beyond_a_few_lose_their_guests() -> None:
    async def story() -> None:
        world = World()
        for number in range(6):
            terms = msgspec.structs.replace(TERMS, cwd=f"/{number}")
            world.take(terms)
            world.take(terms)
            await until(lambda number=number: len(world.begun) == number + 1 and world.begun[-1].stands)
        await until(lambda: [one.closed for one in world.begun] == [True, True, False, False, False, False])
        await world.pool.close()

    tell(story)


@pytest.mark.parametrize("hangs", [False, True])
def test_closing_ends_what_waits_and_what_is_being_made(hangs: bool) -> None:
    async def story() -> None:
        world = World(hangs=hangs)
        world.take()
        world.take()
        await until(lambda: bool(world.begun) and world.begun[0].stands is not hangs)
        await world.pool.close()
        assert [one.closed for one in world.begun] == [True]
        assert world.take() is None
        await asyncio.sleep(0.01)
        assert len(world.begun) == 1

    tell(story)


def test_one_that_cannot_be_made_is_tried_again_when_somebody_asks() -> None:
    async def story() -> None:
        world = World(fails=True)
        world.take()
        world.take()
        await until(lambda: bool(world.begun) and world.begun[0].closed)
        await asyncio.sleep(0.01)
        assert len(world.begun) == 1, "not over and over"
        world.options = {}
        assert world.take() is None
        await world.filled()
        await world.pool.close()

    tell(story)


# -- with real guests ---------------------------------------------------------------------------------


async def _opened(runtime: Runtime, name: str = "") -> AsyncSession:
    session = AsyncSession()
    limits = Limits(memory=512 * 2**20)
    session._runtime, session._session = runtime, runtime.open_session(limits=limits, name=name)
    await session._session.ready()
    return session


async def _one_waits(runtime: Runtime) -> None:
    await until(lambda: len(runtime._pool.waiting) == 1)


def with_runtime(directory: Path, story: Callable[[Runtime], Awaitable[None]]) -> None:
    async def whole() -> None:
        runtime = Runtime(Settings(workdir=str(directory), warm=(*BARE, "colorsys"), ready=1))
        try:
            await story(runtime)
        finally:
            await runtime.close()
        assert runtime._pool.waiting == []

    asyncio.run(whole())


def test_a_handed_out_guest_is_a_new_one_with_its_own_name_and_clock(directory: Path) -> None:
    async def story(runtime: Runtime) -> None:
        opened = [await _opened(runtime), await _opened(runtime)]
        for session in opened:
            await session.run("trace = 1; open('trace', 'w').write('x')")
        await _one_waits(runtime)
        [waiting] = runtime._pool.waiting
        pid, asked = waiting.pid, waiting.account.now()
        assert waiting not in runtime.sessions
        third = await _opened(runtime, "third")
        inner = third._open
        assert inner is waiting
        assert inner.pid == pid
        assert inner in runtime.sessions
        assert inner.terms.name == "third"
        assert inner.account.began >= asked
        look = "import os; ('trace' in globals(), os.path.exists('trace'), len(In), len(Out))"
        assert (await third.run(look)).result == "(False, False, 2, 0)"
        assert third.walls == opened[0].walls
        await _one_waits(runtime)
        assert (await _opened(runtime))._open not in (inner, *(one._open for one in opened))

    with_runtime(directory, story)


def test_a_guest_killed_while_it_waits_is_nobodys(directory: Path) -> None:
    async def story(runtime: Runtime) -> None:
        await _opened(runtime)
        await _opened(runtime)
        await _one_waits(runtime)
        [waiting] = runtime._pool.waiting
        killed = waiting.pid
        pidfd = os.pidfd_open(killed)
        os.kill(killed, signal.SIGKILL)
        select.select([pidfd], [], [])  # the loop stands still meanwhile: nobody has noticed
        os.close(pidfd)
        session = await _opened(runtime)
        assert (await session.run("1 + 1")).result == "2"
        assert session._open.pid not in (0, killed)

    with_runtime(directory, story)


def test_waiting_guests_move_to_the_warm_zygote_too(directory: Path) -> None:
    async def story(runtime: Runtime) -> None:
        await _opened(runtime)
        await _opened(runtime)
        await _one_waits(runtime)
        runtime.warm_up()
        assert runtime._warming is not None
        await runtime._warming
        session = await _opened(runtime)
        assert (await session.run("import sys; 'colorsys' in sys.modules")).result == "True"

    with_runtime(directory, story)


def test_programs_have_one_ready_and_kernels_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERNEL_RUNTIME_READY")
    assert default_settings().ready == 1
    assert default_settings(kind="kernel").ready == 0
    for text, ready in (("0", 0), ("3", 3), ("many", 1), ("100000", 64)):
        monkeypatch.setenv("KERNEL_RUNTIME_READY", text)
        assert default_settings().ready == ready
        assert default_settings(kind="kernel").ready == 0

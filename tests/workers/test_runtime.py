"""Runtimes: zygotes warm up beside their sessions, and come back when they are gone."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime import Conflict, WallUnavailable
from kernel_runtime.client import AsyncSession
from kernel_runtime.domain.limits import Limits
from kernel_runtime.runtime import Runtime, Settings, default_settings, guest_environment
from kernel_runtime.workers import registry
from kernel_runtime.workers.init import Init
from kernel_runtime.workers.launch import BARE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from kernel_runtime.sandbox.plan import GuestPlan

#: Stands for pandas and the like: a module that no guest has imported by itself.
WARM = (*BARE, "colorsys", "there_is_no_such_module")


def run(directory: Path, story: Callable[[Runtime], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        runtime = Runtime(Settings(workdir=str(directory), warm=WARM))
        try:
            return await story(runtime)
        finally:
            await runtime.close()

    return asyncio.run(whole())


async def _session(runtime: Runtime) -> AsyncSession:
    """The public session over one that this runtime has opened."""
    session = AsyncSession()
    session._runtime, session._session = runtime, runtime.open_session(limits=Limits(memory=512 * 2**20))
    await session._session.ready()
    return session


async def _knows_colorsys(session: AsyncSession) -> bool:
    return (await session.run("import sys; 'colorsys' in sys.modules")).result == "True"


async def _warmed(runtime: Runtime) -> None:
    runtime.warm_up()
    assert runtime._warming is not None
    await runtime._warming


def test_a_zygote_that_a_guest_is_just_being_forked_from_stays(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended with the guest in it, when the warm one stood at that very moment."""
    spawn, begun, let_go = Init.spawn, asyncio.Event(), asyncio.Event()

    async def held(init: Init, plan: GuestPlan) -> None:
        begun.set()
        await let_go.wait()
        await spawn(init, plan)

    async def story(runtime: Runtime) -> None:
        await _session(runtime)
        monkeypatch.setattr(Init, "spawn", held)
        opening = asyncio.ensure_future(_session(runtime))
        await begun.wait()
        bare = runtime._bare
        monkeypatch.setattr(Init, "spawn", spawn)
        await _warmed(runtime)
        assert runtime._bare is bare
        let_go.set()
        session = await opening
        assert not await _knows_colorsys(session)
        await session.close()
        assert runtime._bare is None

    run(directory, story)


def test_an_unused_session_moves_to_the_warm_zygote_and_the_bare_one_goes(directory: Path) -> None:
    async def story(runtime: Runtime) -> None:
        session = await _session(runtime)
        await _warmed(runtime)
        assert await _knows_colorsys(session)
        assert runtime._bare is None

    run(directory, story)


def test_a_used_session_keeps_its_state_and_moves_when_it_is_restarted(directory: Path) -> None:
    async def story(runtime: Runtime) -> None:
        session = await _session(runtime)
        await session.run("kept = 1")
        await _warmed(runtime)
        assert await session.value("kept") == 1
        assert not await _knows_colorsys(session)
        await session.restart()
        assert await _knows_colorsys(session)

    run(directory, story)


def test_later_sessions_come_from_the_warm_zygote(directory: Path) -> None:
    async def story(runtime: Runtime) -> None:
        first = await _session(runtime)
        await first.run("1")
        await _warmed(runtime)
        assert await _knows_colorsys(await _session(runtime))
        assert not await _knows_colorsys(first)

    run(directory, story)


@pytest.mark.slow
def test_a_writer_of_a_warm_zygotes_guest_need_not_import_what_it_works_with(directory: Path) -> None:
    writer = "import sys; 'kernel_runtime.guest.checkpoint_save' in sys.modules"

    async def story(runtime: Runtime) -> None:
        first = await _session(runtime)
        assert (await first.run(writer)).result == "False"
        await _warmed(runtime)
        assert (await (await _session(runtime)).run(writer)).result == "True"

    run(directory, story)


@pytest.mark.slow
def test_guests_of_one_warm_zygote_draw_different_random_numbers(directory: Path) -> None:
    draw = "import random, numpy; (random.random(), numpy.random.rand())"

    async def story() -> list[str | None]:
        runtime = Runtime(Settings(workdir=str(directory), warm=(*BARE, "numpy.random")))
        try:
            first = await _session(runtime)
            await _warmed(runtime)
            second = await _session(runtime)
            drawn = [(await session.run(draw)).result for session in (first, second)]
            await second.restart()
            return [*drawn, (await second.run(draw)).result]
        finally:
            await runtime.close()

    drawn = [result.strip("()").split(", ") for result in asyncio.run(story()) if result]
    assert len(drawn) == 3
    for numbers in zip(*drawn, strict=True):
        assert len(set(numbers)) == 3


def test_a_warm_zygote_that_dies_is_replaced_by_a_bare_one(directory: Path) -> None:
    async def story(runtime: Runtime) -> None:
        session = await _session(runtime)
        await _warmed(runtime)
        assert runtime._warm is not None
        os.kill(runtime._warm.pid, 9)
        async with asyncio.timeout(60):
            while runtime._warm.alive:  # until the front has heard of it
                await asyncio.sleep(0.01)
        assert (await session.run("1 + 1")).result == "2"

    run(directory, story)


def test_a_closed_runtime_opens_nothing(directory: Path) -> None:
    async def story(runtime: Runtime) -> None:
        await runtime.close()
        with pytest.raises(Conflict, match="closed"):
            runtime.open_session()

    run(directory, story)


def test_a_zygote_that_cannot_be_founded_is_an_error_for_each_session(tmp_path: Path) -> None:
    """The directory is gone: no guest starts, and the reason is told every time it is asked."""

    async def story() -> None:
        runtime = Runtime(Settings(workdir=str(tmp_path / "gone"), warm=()))
        session = runtime.open_session()
        for _ in range(2):
            with pytest.raises(WallUnavailable, match="mount"):
                await session.ready()
        await runtime.close()

    asyncio.run(story())


def test_live_sessions_are_listed_and_leave_the_list(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    async def story(runtime: Runtime) -> tuple[list[Any], list[Any]]:
        session = await _session(runtime)
        during: list[Any] = []
        deadline = time.monotonic() + 60
        while not any(e["sessions"][0]["pid"] for e in during) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            during = registry.listing()
        await session.close()
        return during, registry.listing()

    during, after = run(directory, story)
    (entry,) = [entry for entry in during if entry["pid"] == os.getpid()]
    assert entry["sessions"][0]["workdir"] == str(directory)
    assert entry["sessions"][0]["pid"] > 0
    assert after == []


def test_a_home_is_never_the_directory_of_guests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_settings(str(tmp_path)).workdir is None
    below = tmp_path / "project"
    below.mkdir()
    assert default_settings(str(below)).workdir == str(below)


def test_nothing_of_the_environment_but_language_and_terminal_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    environment = guest_environment("/home/ada")
    assert "planted" not in str(environment)
    assert environment["LANG"] == "de_DE.UTF-8"


def test_a_front_can_pass_on_more_descriptors_than_its_guests_hold() -> None:
    """What is on its way counts for all processes of the user: a guest must not use up the front's."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limit[1]))
        Runtime(Settings(warm=()))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert hard == limit[1]
    assert soft == 65_536 or soft == hard < 65_536


def test_a_request_that_waits_is_not_given_to_a_guest_that_was_just_dropped(directory: Path) -> None:
    """Between a guest's start and the wake-up of who waits for it, it may be left for a warmer one."""

    async def story(runtime: Runtime) -> None:
        inner = runtime.open_session(limits=Limits(memory=512 * 2**20))
        session = AsyncSession()
        session._runtime, session._session = runtime, inner
        inner.start().add_done_callback(lambda _: inner._drop_init())
        done = await asyncio.wait_for(session.run("1 + 1"), 60)
        assert done.result == "2"

    run(directory, story)


@pytest.mark.slow
def test_a_closed_session_leaves_nothing_to_the_collector_of_cycles(directory: Path) -> None:
    """A front of many objects is collected rarely: what waits for it would look like a leak."""

    async def story(runtime: Runtime) -> None:
        await _lived(runtime)  # whatever is imported and remembered once
        gc.collect()
        gc.disable()
        try:
            closed = [await _lived(runtime) for _ in range(3)]
            assert await _eventually(lambda: not any(each() for each in closed))
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            assert [type(each) for each in gc.garbage] == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()

    run(directory, story)


async def _lived(runtime: Runtime) -> weakref.ref[Any]:
    """A session that ran, was interrupted, lost its branch, was restarted and closed."""
    session = await _session(runtime)
    inner = session._session
    assert (await session.run("1 + 1")).result == "2"
    await session.run("import os; os._exit(3)", check=False)
    await inner.restart()
    assert (await session.run("print('x' * 10)")).stdout == "x" * 10 + "\n"
    await runtime.close_session(inner)
    return weakref.ref(inner)


async def _eventually(holds: Callable[[], bool]) -> bool:
    """Timers of a few seconds hold what they were set for."""
    for _ in range(400):
        if holds():
            return True
        await asyncio.sleep(0.05)
    return False


def test_who_asks_just_when_a_start_is_done_does_not_wait_for_its_callback(directory: Path) -> None:
    """To await what is done lets nobody else run: the callback that would end the waiting least of all."""

    async def story(runtime: Runtime) -> None:
        inner = (await _session(runtime))._open
        branch = await inner.ready()
        done = asyncio.get_running_loop().create_task(asyncio.sleep(0))
        await done
        inner._starting = done  # as between its end and its callback
        assert await inner.ready() is branch

    run(directory, story)

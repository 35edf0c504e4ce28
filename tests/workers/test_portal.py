"""The portal: a blocking caller hears of what the person presses, whichever moment that is."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from kernel_runtime.domain.errors import Conflict
from kernel_runtime.workers.portal import Portal


@pytest.fixture
def portal():
    portal = Portal()
    yield portal
    portal.close()


def test_a_signal_that_does_not_end_the_waiting_is_heard_all_the_same(portal: Portal) -> None:
    """Python's handler is due, but the waiting thread was not woken: as when a signal comes just before the wait."""

    def strike() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    async def work() -> str:
        pressed = asyncio.Event()
        heard.append(pressed.set)
        threading.Timer(0.2, strike).start()
        await asyncio.wait_for(pressed.wait(), 30)
        return "heard"

    heard: list = []
    assert portal.call(work(), on_interrupt=lambda: heard[0]()) == "heard"


def test_without_somebody_who_hears_of_it_the_call_is_cancelled(portal: Portal) -> None:
    ended = threading.Event()

    async def work() -> None:
        threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,)).start()
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        portal.call(work())
    assert ended.wait(10)


def test_a_call_from_the_loop_itself_is_refused(portal: Portal) -> None:
    async def work() -> None:
        portal.call(asyncio.sleep(0))

    with pytest.raises(Conflict, match="wait for itself"):
        portal.call(work())

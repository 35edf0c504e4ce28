"""A session of which nothing is asked for a while is paused by itself: its state stays, its memory is given back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.terms import Terms
    from kernel_runtime.workers.turns import Turns


class Live(Protocol):
    """The part of the session that this needs."""

    terms: Terms
    turns: Turns

    @property
    def resting(self) -> Branch | None: ...
    async def pause(self) -> int: ...


class Idle:
    """Of one session; ``Terms.idle`` is how long. ``pausing``: the last pause that was begun here."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.pausing: asyncio.Task[int] | None = None

    def wait(self) -> None:
        """The time begins anew."""
        self._stop()
        seconds = None if self._closed else self._live.terms.idle
        if seconds:  # 0: never
            self._timer = asyncio.get_running_loop().call_later(seconds, self.look)

    def close(self) -> None:
        """Let go of the session."""
        self._closed = True
        self._stop()
        if self.pausing is not None:
            self.pausing.cancel()
        del self._live

    def look(self) -> None:
        """The time is up. It begins anew whatever comes of it: an end or a person may let the guest go on."""
        turns = self._live.turns
        if self._live.resting is not None and turns.are_alone and not turns.are_taken:
            self.pausing = asyncio.get_running_loop().create_task(self._live.pause())
            self.pausing.add_done_callback(_ignore)
        self.wait()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _ignore(task: asyncio.Task[int]) -> None:
    """A guest that could not be paused goes on."""
    if not task.cancelled():
        task.exception()

"""Turns: what is asked of a session's live branch begins in the order in which it came.

Whoever brings back another state keeps its turn until that state is there: what comes meanwhile waits, and runs in it
(or, if that fails, in the present one). What copies do beside the live branch needs no turn; who stops the copies, too,
waits for its end.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

#: How long who stops all of the guest waits for the copies: whoever presses a button looks on.
ALONE_SECONDS = 60.0


class Turn:
    """One's own; ``check`` raises ``CancelledError`` when the cell it is for was interrupted before it began."""

    def __init__(self, *, cell: bool) -> None:
        self.has_come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_cell = cell
        self._interrupted = False

    def interrupt(self) -> None:
        self._interrupted = True
        self.has_come.cancel()

    def check(self) -> None:
        if self._interrupted:
            raise asyncio.CancelledError


class Turns:
    """All of a session's: one at a time. In the one turn nobody may wait for another."""

    def __init__(self) -> None:
        self._line: dict[Turn, None] = {}
        self._beside = 0
        self._alone = asyncio.Event()
        self._alone.set()

    @property
    def are_taken(self) -> bool:
        return bool(self._line)

    @property
    def are_alone(self) -> bool:
        """Whether no copy works."""
        return self._alone.is_set()

    @asynccontextmanager
    async def turn(self, *, cell: bool = False) -> AsyncIterator[Turn]:
        """Wait for one's turn; it is the next one's afterwards. ``cell``: an interrupt ends the waiting."""
        turn = Turn(cell=cell)
        if not self._line:
            turn.has_come.set_result(None)
        self._line[turn] = None
        try:
            await turn.has_come
            yield turn
        finally:
            del self._line[turn]
            self._next()

    @contextmanager
    def beside(self) -> Iterator[None]:
        """While a copy works: is read, or writes a checkpoint."""
        self._beside += 1
        self._alone.clear()
        try:
            yield
        finally:
            self._beside -= 1
            if not self._beside:
                self._alone.set()

    @asynccontextmanager
    async def turn_alone(self) -> AsyncIterator[Turn]:
        """A turn in which no copy works. It is waited for outside of the line: a copy may have to take a turn itself.
        ``Conflict`` when that takes longer than ``ALONE_SECONDS``."""
        while True:
            await self._until_alone()
            async with self.turn() as turn:
                if self.are_alone:
                    yield turn
                    return

    async def _until_alone(self) -> None:
        try:
            async with asyncio.timeout(ALONE_SECONDS):
                await self._alone.wait()
        except TimeoutError:
            raise Conflict(
                "a checkpoint is still being written, or a snapshot read, and would stop with the guest: try again when that is over"
            ) from None

    def _next(self) -> None:
        """The first in line has its turn, if it has it not already."""
        for turn in self._line:
            if not turn.has_come.cancelled():
                if not turn.has_come.done():
                    turn.has_come.set_result(None)
                return

    def interrupt(self) -> None:
        """Of the cells that have not begun yet, the first is not to."""
        for turn in self._line:
            if turn.is_cell:
                turn.interrupt()
                return

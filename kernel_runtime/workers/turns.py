"""Turns: what is asked of a session's live branch begins in the order in which it came.

Whoever brings back another state keeps its turn until that state is there: what comes meanwhile waits, and runs in it
(or, if that fails, in the present one).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


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

    @property
    def are_taken(self) -> bool:
        return bool(self._line)

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

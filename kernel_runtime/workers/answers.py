"""Answers of a frozen branch, one at a time. It is hostile: what was not asked for ends its link."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kernel_runtime import wire
from kernel_runtime.domain.errors import ProtocolViolation

if TYPE_CHECKING:
    from kernel_runtime.domain.errors import GuestLost

Answer = wire.Weighed | wire.Told


class Answers:
    """One that nobody waits for any more comes all the same, first of all when the branch runs again: it is no answer
    to what is asked then."""

    def __init__(self) -> None:
        self._awaited: asyncio.Future[Answer] | None = None
        self._owed = 0

    async def next(self, seconds: float) -> Answer:
        """To what was just asked; ``TimeoutError`` when it does not come in time."""
        awaited: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._awaited = awaited
        try:
            async with asyncio.timeout(seconds):
                return await awaited
        except asyncio.CancelledError:
            self._owed += awaited.cancelled()
            raise
        finally:
            self._awaited = None

    def take(self, answer: Answer) -> None:
        """It has come."""
        if self._owed:
            self._owed -= 1
        elif self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(answer)
        else:
            raise ProtocolViolation("a frozen branch answered what was not asked")

    def fail(self, error: GuestLost) -> None:
        """None will come."""
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_exception(error)
            self._awaited.exception()  # whoever waits for it gets it; nobody may

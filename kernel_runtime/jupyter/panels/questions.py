"""Questions to the person that are open, and what was answered: the rules of the card, without a page.

The broker sends each question once and only so many at a time (``broker/prompting.py``), and knows what was denied.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.domain.rules import Span
from kernel_runtime.domain.scopes import Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.domain.question import Question
    from kernel_runtime.domain.scopes import Scope

#: Answers that are told.
MOST_TOLD = 6


class Open:
    """One question that waits."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.until = time.monotonic() + question.seconds
        self.answer: asyncio.Future[Span | None] = asyncio.get_running_loop().create_future()

    @property
    def left(self) -> float:
        """Seconds until it is denied."""
        return max(0.0, self.until - time.monotonic())


class Questions:
    """The open ones, oldest first. ``changed`` is called whenever there is something else to show."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.open: list[Open] = []
        self.told: list[str] = []
        self.unasked = 0
        self._changed = changed
        self._deaf = False

    def begin_cell(self) -> None:
        """Another cell is heard again, whatever was said to the last one."""
        self._deaf, self.unasked, self.told = False, 0, []

    async def ask(self, question: Question, shown: Callable[[], Awaitable[None]]) -> Span | None:
        """The answer; ``shown`` shows what is open. Cancelled when nobody waits for it any more."""
        if self._deaf:
            self.unasked += 1
            self._changed()
            raise CapabilityDenied(f"{question.what}: the person denied all that this cell asks")
        found = Open(question)
        self.open.append(found)
        self._changed()
        try:
            await shown()
            return await found.answer
        finally:
            self._close(found, "had no answer, so it was denied")

    def answer(self, found: Open, span: Span | None) -> None:
        """What the person said to one question."""
        if not found.answer.done():
            found.answer.set_result(span)
            self._close(found, f"was {_WORDS[span]}")

    def deny_all(self) -> None:
        """No to all that are open, and to whatever this cell still asks."""
        self._deaf = True
        for found in list(self.open):
            self.answer(found, None)

    def _close(self, found: Open, how: str) -> None:
        if found in self.open:
            self.open.remove(found)
            told = f"{time.strftime('%H:%M:%S')}  {found.question.what} {how}"
            self.told = [*self.told, told][-MOST_TOLD:]
            self._changed()


_WORDS = {
    Span.ONCE: "allowed once",
    Span.SESSION: "allowed for this session",
    Span.ALWAYS: "allowed always, for this version",
    None: "denied",
}
_MEANINGS = {
    Kind.SECRET: "use the secret {}",
    Kind.CACHE: "use the cache",
    Kind.CALL: "call the handler {}",
    Kind.ENV: "read the environment variable {}",
    Kind.PROCESS: "start programs",
    Kind.UI: "show the panel {}",
    Kind.CLOCK: "read the clock",
}
_ACTIONS = {
    (Kind.FILES, "read"): "read the file {}",
    (Kind.FILES, "write"): "write the file {}",
    (Kind.DB, "read"): "read from the database {}",
    (Kind.DB, "write"): "write to the database {}",
    (Kind.EVENTS, "publish"): "publish events of {}",
    (Kind.EVENTS, "subscribe"): "receive events of {}",
}


def meaning(scope: Scope) -> str:
    """What it would mean, in words."""
    if scope.kind is Kind.NET:
        return f"send a {scope.action} request to {scope.target} over the network"
    return (_ACTIONS.get((scope.kind, scope.action)) or _MEANINGS[scope.kind]).format(scope.target)

"""Questions to the person that are open, and what was answered: the rules of the card, without a page.

Equal questions are one. A flood is bounded: what comes beyond is denied unasked. What was denied is not
asked again in the same cell, so that nobody can be worn down.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from kernel_runtime.domain.rules import Span
from kernel_runtime.domain.scopes import Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.domain.decide import Request
    from kernel_runtime.domain.scopes import Scope

#: Questions that are open at once; answers that are told.
MOST_OPEN, MOST_TOLD = 50, 6


class Question(Protocol):
    """What the broker asks. ``why``: the manifest's reasons, which are the app's own words."""

    @property
    def request(self) -> Request: ...
    @property
    def rule(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def app(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def why(self) -> tuple[str, ...]: ...
    @property
    def what(self) -> str: ...
    @property
    def key(self) -> tuple[str, ...]: ...


class Open:
    """One question that waits, for everybody who asked it."""

    def __init__(self, question: Question, until: float) -> None:
        self.question = question
        self.until = until
        self.count = 0
        self.waiting = 0
        self.answer: asyncio.Future[Span | None] = asyncio.get_running_loop().create_future()

    @property
    def left(self) -> float:
        """Seconds until it is denied."""
        return max(0.0, self.until - time.monotonic())


class Questions:
    """The open ones, oldest first. ``changed`` is called whenever there is something else to show."""

    def __init__(self, seconds: float, changed: Callable[[], None]) -> None:
        self.seconds = seconds
        self.told: list[str] = []
        self.unasked = 0
        self._changed = changed
        self._open: dict[tuple[str, ...], Open] = {}
        self._denied: set[tuple[str, ...]] = set()
        self._deaf = False

    @property
    def open(self) -> list[Open]:
        return list(self._open.values())

    def begin_cell(self) -> None:
        """Another cell: what was denied in the last one may be asked again."""
        self._denied.clear()
        self._deaf, self.unasked, self.told = False, 0, []

    async def ask(self, question: Question, shown: Callable[[], Awaitable[None]]) -> Span | None:
        """The answer, or ``None`` when there is none in time; ``shown`` shows what is open. Cancelled:
        nobody wants it any more."""
        found = self._open.get(question.key)
        if found is None:
            if self._deaf or question.key in self._denied or len(self._open) >= MOST_OPEN:
                self.unasked += 1
                self._changed()
                return None
            found = self._open[question.key] = Open(question, time.monotonic() + self.seconds)
        found.count += 1
        found.waiting += 1
        self._changed()
        try:
            await shown()
            return await asyncio.wait_for(asyncio.shield(found.answer), found.left)
        except TimeoutError:
            self._settle(found, None, "nobody answered, so it was denied")
            return None
        finally:
            found.waiting -= 1
            if not found.waiting and not found.answer.done():
                self._settle(found, None, "is no longer wanted")

    def answer(self, found: Open, span: Span | None) -> None:
        """What the person said to one question."""
        if span is None:
            self._denied.add(found.question.key)
        self._settle(found, span, f"was {_WORDS[span]}")

    def deny_all(self) -> None:
        """No to all that are open, and to whatever this cell still asks."""
        self._deaf = True
        for found in self.open:
            self.answer(found, None)

    def _settle(self, found: Open, span: Span | None, how: str) -> None:
        if found.answer.done():
            return
        self._open.pop(found.question.key, None)
        found.answer.set_result(span)
        self.told = [*self.told, f"{time.strftime('%H:%M:%S')}  {found.question.what} {how}"][-MOST_TOLD:]
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

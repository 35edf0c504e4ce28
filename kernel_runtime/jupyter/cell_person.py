"""The person asked while a cell of ``%%sandbox`` runs, through the stdin of the kernel that runs it.

Questions come in the loop that the guests live in; they are read in the thread of the cell, where a Jupyter kernel
or a terminal lets its code ask. The guest takes no part: only what is typed for this very question counts.
"""

from __future__ import annotations

import asyncio
import functools
import shlex
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.jupyter.line import Line, in_main_thread
from kernel_runtime.jupyter.question_text import answered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernel_runtime.domain.question import Question
    from kernel_runtime.domain.rules import Span

_NOBODY = "nobody can be asked here"
_SILENT = "nobody is asked when its cell is over, or was interrupted"


class CellPerson:
    """``ports.Person`` of one guest, called ``name``. ``known``: which notebook this is; else another may be the
    next to call a guest so, and what is granted always holds for this session alone."""

    def __init__(self, name: str, *, known: bool) -> None:
        self._name = name
        self._known = known
        self._lock = threading.Lock()
        self._put: Callable[[Line], None] | None = None
        self._why = _SILENT
        self._open: set[Line] = set()

    @contextmanager
    def during(self, put: Callable[[Line], None]) -> Iterator[None]:
        """The guest's cell runs in this thread, which reads the lines that are ``put``."""
        able = in_main_thread()
        with self._lock:
            self._put, self._why = (put, _SILENT) if able else (None, _NOBODY)
        try:
            yield
        finally:
            self.hush()

    def hush(self) -> None:
        """In this cell no more is asked; what is open is withdrawn."""
        with self._lock:
            self._put, self._why = None, _SILENT
            waiting = list(self._open)
        for line in waiting:
            line.withdraw()
            line.answer(None)

    def interrupted(self) -> None:
        """No more is asked in this cell. The guest itself takes back what is open: an answer would overtake the interrupt."""
        with self._lock:
            self._put, self._why = None, _SILENT

    async def answer(self, question: Question) -> Span | None:
        """See ``ports.Person``."""
        from kernel_runtime.domain.rules import Span

        span = await answered(question, functools.partial(self._typed, question))
        return Span.SESSION if span is Span.ALWAYS and not self._known else span

    async def _typed(self, question: Question, text: str) -> str:
        loop = asyncio.get_running_loop()
        typed: asyncio.Future[str | None] = loop.create_future()

        def hand_over(said: str | None) -> None:
            with self._lock:  # what was said first holds
                if line in self._open:
                    self._open.discard(line)
                    loop.call_soon_threadsafe(_settle, typed, said)

        line = Line(text, hand_over, ours=True)
        with self._lock:
            if self._put is None:
                raise self._denial(question)
            self._open.add(line)
            self._put(line)
        try:
            said = await typed
        finally:
            with self._lock:
                self._open.discard(line)
            line.withdraw()
        if said is None:
            raise self._denial(question)
        return said

    def _denial(self, question: Question) -> CapabilityDenied:
        why = self._why if self._put is None else _NOBODY  # who reads the lines has found no stdin
        grants = f"`%sandbox permissions {shlex.quote(self._name)}` or your policy file grants it"
        return CapabilityDenied(f"{question.what}: {question.reason}; {why}: {grants} ({question.rule})")


def _settle(typed: asyncio.Future[str | None], said: str | None) -> None:
    if not typed.done():  # nobody may wait any more
        typed.set_result(said)

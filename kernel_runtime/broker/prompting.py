"""Asking the person, for every front: equal questions are one, a flood of them is cut, and nobody waits for ever.

What a person has denied holds for the session: code that asks again, in whichever cell, cannot wear them down. What
they never saw (cut, withdrawn, unanswered) is no denial of theirs, and may be asked later. Where nobody can be asked
nothing counts towards the flood: each is told so.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kernel_runtime.domain.bucket import Bucket
from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.domain.question import Unanswered
from kernel_runtime.domain.rules import Span

if TYPE_CHECKING:
    from kernel_runtime.domain.question import Question
    from kernel_runtime.ports import Person

#: Seconds that a question waits for its answer.
PATIENCE = 120.0
#: Different questions that may be open at once; how many may come at once, and for ever in a second.
MAX_OPEN, BURST, RATE = 8, 20, 0.2


class Answer(NamedTuple):
    """``first``: of those that asked the same, the one that acts on it."""

    span: Span | None
    first: bool


class _Open:
    """A question that waits for the person, and how many wait for the answer."""

    def __init__(self, task: asyncio.Task[Span | None]) -> None:
        self.task = task
        self.waiting = 0
        self.taken = False

    def take(self) -> bool:
        taken, self.taken = self.taken, True
        return not taken


class Prompting:
    """The questions of one session."""

    def __init__(self, person: Person, patience: float = PATIENCE) -> None:
        self._person = person
        self._patience = patience
        self._open: dict[tuple[str, ...], _Open] = {}
        self._denied: set[tuple[str, ...]] = set()
        self._bucket = Bucket(RATE, BURST, time.monotonic())

    async def ask(self, question: Question) -> Answer:
        """The person's answer; ``CapabilityDenied`` when they are not asked, or do not answer in time."""
        key = question.key
        self._refuse_denied(question)
        one = self._open.get(key) or self._put(question)
        one.waiting += 1
        try:
            span = await asyncio.shield(one.task)
        finally:
            one.waiting -= 1
            if not one.waiting:
                one.task.cancel()  # nobody waits for the answer any more; over, it changes nothing
        first = one.take()
        if span is None and first:
            self._denied.add(key)
        elif span is None:
            self._refuse_denied(question)
        return Answer(span, first)

    def _refuse_denied(self, question: Question) -> None:
        if question.key in self._denied:
            raise CapabilityDenied(f"{question.what}: the person denied it in this session")

    @property
    def denied(self) -> list[str]:
        """The scopes that the person has denied this session."""
        return sorted({key[0] for key in self._denied})

    def close(self) -> None:
        """Withdraw what is open."""
        for one in list(self._open.values()):
            one.task.cancel()

    def _put(self, question: Question) -> _Open:
        if len(self._open) >= MAX_OPEN:
            raise _unasked(question, f"{MAX_OPEN} of its questions wait for you already", "answer those")
        if not self._bucket.take(time.monotonic()):
            often = (
                f"it has asked you {BURST} times at once, and may ask once in {1 / RATE:.0f} s from then on"
            )
            raise _unasked(question, often, "wait a little")
        task = asyncio.get_running_loop().create_task(self._answer(question))
        one = self._open[question.key] = _Open(task)
        task.add_done_callback(lambda done: self._closed(question.key, done))
        return one

    def _closed(self, key: tuple[str, ...], task: asyncio.Task[Span | None]) -> None:
        del self._open[key]
        if not task.cancelled():
            task.exception()  # who waits gets it; nobody may

    async def _answer(self, question: Question) -> Span | None:
        question = msgspec.structs.replace(question, seconds=self._patience)
        try:
            async with asyncio.timeout(self._patience):
                span = await self._person.answer(question)
        except Unanswered as error:  # they were asked: it counts
            raise CapabilityDenied(str(error)) from None
        except CapabilityDenied:
            self._bucket.owe(time.monotonic(), -1.0)  # nobody was asked: it does not count
            raise
        except TimeoutError:
            raise CapabilityDenied(
                f"{question.what}: nobody answered within {self._patience:.0f} s; run it again to be asked again"
            ) from None
        except Exception as error:
            raise _unheard(question, f"failed ({type(error).__name__}: {error})") from error
        return _checked(question, span)


def _checked(question: Question, span: object) -> Span | None:
    """What the front's code passes on as the answer; nothing but a ``Span`` grants."""
    if span is None or isinstance(span, Span):
        return span
    raise _unheard(question, f"gave {span!r:.80} as the answer, which is neither a Span nor None")


def _unheard(question: Question, why: str) -> CapabilityDenied:
    return CapabilityDenied(f"{question.what}: the person could not be asked: the code that asks them {why}")


def _unasked(question: Question, why: str, first: str) -> CapabilityDenied:
    """The code in the guest asks more than a person can be bothered with."""
    what = question.what
    return CapabilityDenied(
        f"{what}: the code of this session asks too much, so you were not asked for this: {why}. "
        f"It is no denial of yours: {first} and run it again, or let a rule decide without asking "
        f"(--allow {shlex.quote(what)}, or your policy file)"
    )

"""The person in front of the notebook, as the broker asks them: by a card under the cell that runs."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Any, Protocol

from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.jupyter.panels.questions import Questions

if TYPE_CHECKING:
    from kernel_runtime.domain.question import Question
    from kernel_runtime.domain.rules import Span
    from kernel_runtime.jupyter.panels.card import Card
    from kernel_runtime.jupyter.panels.stage import Stage

#: Cards that stay in the page; the oldest give way.
MOST_CARDS = 50


class Place(Protocol):
    """Where a card goes: under the cell that runs now, if somebody sits in front of it."""

    @property
    def cell(self) -> bytes | None:
        """The request that runs; None: there is none, or its client cannot be asked."""

    def show(self, bundle: dict[str, Any], parent: bytes) -> None:
        """Display something in the name of that request."""


class Asking:
    """Obeys the port ``Person``: who answers is whoever presses the card's buttons, never the guest."""

    def __init__(self, stage: Stage, place: Place) -> None:
        self._stage = stage
        self._place = place
        self._questions = Questions(self._changed)
        self._card: Card | None = None
        self._parent = b""
        self._names: list[str] = []
        self._count = 0
        self._showing = asyncio.Lock()

    async def answer(self, question: Question) -> Span | None:
        """See ``ports.Person``; ``CapabilityDenied`` where nobody can be asked, with the flag that grants it, and
        unasked once all that a cell asks was denied."""
        parent = self._place.cell
        if parent is None:
            why = f"nobody can be asked here: --allow {shlex.quote(question.what)} grants it"
            raise CapabilityDenied(f"{question.what}: {question.reason}; {why} ({question.rule})")
        if parent != self._parent:
            self._begin_cell(parent)
        return await self._questions.ask(question, self._shown)

    def _begin_cell(self, parent: bytes) -> None:
        """Another cell runs; what is open is asked under that from now on."""
        if self._card is not None:
            self._card.close()
        self._card = None
        self._parent = parent
        self._questions.begin_cell()

    async def _shown(self) -> None:
        """Under this cell stands a card."""
        async with self._showing:
            if self._card is None:
                await self._new_card(self._parent)

    async def _new_card(self, parent: bytes) -> None:
        await self._stage.open()
        from kernel_runtime.jupyter.panels.card import Card  # needs ipywidgets

        self._count += 1
        name = f"card {self._count}"

        def make() -> Card:
            self._card = Card(self._questions)
            return self._card

        self._place.show(await self._stage.show(name, make, parent), parent)
        self._names.append(name)
        while len(self._names) > MOST_CARDS:
            self._stage.drop(self._names.pop(0))

    def _changed(self) -> None:
        if self._card is not None:
            self._card.draw()

"""The person in front of the notebook, as the broker asks them: by a card under the cell that runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from kernel_runtime.jupyter.panels.questions import Questions

if TYPE_CHECKING:
    from kernel_runtime.domain.rules import Span
    from kernel_runtime.jupyter.panels.card import Card
    from kernel_runtime.jupyter.panels.questions import Question
    from kernel_runtime.jupyter.panels.stage import Stage

ASK_SECONDS = 60.0
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

    def __init__(self, stage: Stage, place: Place, seconds: float = ASK_SECONDS) -> None:
        self._stage = stage
        self._place = place
        self._questions = Questions(seconds, self._changed)
        self._card: Card | None = None
        self._parent = b""
        self._names: list[str] = []
        self._count = 0
        self._showing = asyncio.Lock()

    async def answer(self, question: Question) -> Span | None:
        """How long it is granted for; ``None``: denied, also when nobody answers or can be asked."""
        parent = self._place.cell
        if parent is None:
            return None
        async with self._showing:
            if parent != self._parent or self._card is None:
                await self._new_card(parent)
        return await self._questions.ask(question)

    async def _new_card(self, parent: bytes) -> None:
        """Under another cell; what is open is asked there from now on."""
        await self._stage.open()
        from kernel_runtime.jupyter.panels.card import Card  # needs ipywidgets

        if self._card is not None:
            self._card.close()
        self._questions.begin_cell()
        self._count += 1
        name = f"card {self._count}"
        card = self._card = Card(self._questions)
        self._parent = parent
        self._place.show(await self._stage.show(name, lambda: card, parent), parent)
        self._names.append(name)
        while len(self._names) > MOST_CARDS:
            self._stage.drop(self._names.pop(0))

    def _changed(self) -> None:
        if self._card is not None:
            self._card.draw()

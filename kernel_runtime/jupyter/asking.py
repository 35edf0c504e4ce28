"""The person asked by the front: through stdin in ``jupyter console``, and wherever a cell may ask; else by a card."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Protocol

from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.jupyter.question_text import answered
from kernel_runtime.jupyter.requests import Execute, read

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kernel_runtime.domain.question import Question
    from kernel_runtime.domain.rules import Span
    from kernel_runtime.jupyter.messages import Message
    from kernel_runtime.ports import Person


class Client(Protocol):
    """What prompts to a client go through."""

    def question(self, text: str, message: Message) -> Awaitable[str]:
        """Ask whoever sent ``message``; ``CancelledError`` when that request is over first."""


class StdinPerson:
    """``ports.Person``: asks the client whose cell runs. ``running``: its request."""

    def __init__(self) -> None:
        self.prompts: Client | None = None
        self.running: Message | None = None

    async def answer(self, question: Question) -> Span | None:
        """See ``ports.Person``; ``CapabilityDenied`` where nobody can be asked."""
        message = self.running
        if self.prompts is None or message is None or not read(message, Execute).allow_stdin:
            raise CapabilityDenied(
                f"{question.what}: {question.reason}; nobody can be asked here: "
                f"--allow {shlex.quote(question.what)} grants it ({question.rule})"
            )
        prompts = self.prompts
        return await answered(question, lambda text: prompts.question(text, message))


class FrontPerson(StdinPerson):
    """The person in front of this kernel: asked by a card under the cell (``card``) where a Jupyter server has
    started it, for the pages of one show widgets; else through stdin."""

    def __init__(self) -> None:
        super().__init__()
        self.card: Person | None = None

    async def answer(self, question: Question) -> Span | None:
        """See ``ports.Person``."""
        if self.card is not None and "JPY_SESSION_NAME" in os.environ:
            return await self.card.answer(question)
        return await super().answer(question)

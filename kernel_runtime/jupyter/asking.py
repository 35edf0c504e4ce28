"""The person asked through stdin, by the front itself: in ``jupyter console``, and wherever a cell may ask.

The guest can neither answer nor imitate it: an answer counts only with the number that its question shows, and
which the guest never sees. What it asks by ``input()`` goes to the guest, and grants nothing.
"""

from __future__ import annotations

import os
import secrets
import shlex
from typing import TYPE_CHECKING, Protocol

from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.jupyter.page_text import clean_terminal
from kernel_runtime.jupyter.requests import Execute, read

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kernel_runtime.domain.question import Question
    from kernel_runtime.domain.rules import Span
    from kernel_runtime.jupyter.messages import Message
    from kernel_runtime.ports import Person

_TRIES = 3
_NO = ("", "n", "no", "deny")


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
        from kernel_runtime.domain.rules import Span  # with all its conditions: not at each start

        for _ in range(_TRIES):
            number = f"{10 + secrets.randbelow(90)}"
            said = (await self.prompts.question(shown(question, number), message)).strip().lower()
            word, _, rest = said.partition(" ")
            if word in tuple(Span) and rest.strip() == number:
                return Span(word)
            if said in _NO:
                return None
        return None


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


def shown(question: Question, number: str) -> str:
    """The question as text. What the app says of itself is quoted."""
    lines = [
        "[kernel_runtime asks; this is not the notebook]",
        f"  {question.app} {question.version} wants: {question.what}",
        *(f'  it says: "{why}"' for why in question.why),
        f"  asked because: {question.reason} ({question.rule})",
        f"Type `once {number}`, `session {number}` or `always {number}` to allow it; nothing, to deny: ",
    ]
    return "\n".join(clean_terminal(line) for line in lines)

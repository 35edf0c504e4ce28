"""A question to the person as text, and what the line means that they type: for every front that has a stdin.

The guest can neither answer nor imitate it: an answer counts only with the number that its question shows, and
which the guest never sees. What it asks by ``input()`` goes to the guest, and grants nothing.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from kernel_runtime.jupyter.page_text import clean_terminal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.domain.question import Question
    from kernel_runtime.domain.rules import Span

_TRIES = 3
_NO = ("", "n", "no", "deny")


async def answered(question: Question, ask: Callable[[str], Awaitable[str]]) -> Span | None:
    """What the person says to it; ``ask`` shows them a text and returns the line they type. Each time the question
    has another number, and only with that number a word allows it."""
    from kernel_runtime.domain.question import Unanswered
    from kernel_runtime.domain.rules import Span  # with all its conditions: not at each start

    for attempt in range(_TRIES):
        number = f"{10 + secrets.randbelow(90)}"
        said = (await ask(shown(question, number, again=attempt > 0))).strip().lower()
        word, _, rest = said.partition(" ")
        if word in tuple(Span) and rest.strip() == number:
            return Span(word)
        if said in _NO or (word in _NO and rest.strip() == number):
            return None
    raise Unanswered(
        f"{question.what}: {_TRIES} times something else was typed than an answer; you have not denied it: run it again to be asked again"
    )


def shown(question: Question, number: str, *, again: bool = False) -> str:
    """The question as text. What the app says of itself is quoted. ``again``: what was typed before was no answer."""
    missed = "  (what you typed is no answer here: the number belongs to it, and is another each time)"
    lines = [
        "[kernel_runtime asks; this is not the notebook]",
        *([missed] if again else []),
        f"  {f'{question.app} {question.version}'.strip()} wants: {question.what}",
        *(f'  it says: "{why}"' for why in question.why),
        *([f"  BEWARE: {question.warning}"] if question.warning else []),
        f"  asked because: {question.reason} ({question.rule})",
        f"Type {_listed(number, 'once', 'session', 'always')} to allow it; `deny {number}` or nothing, to deny: ",
    ]
    return "\n".join(clean_terminal(line) for line in lines)


def _listed(number: str, *words: str) -> str:
    *first, last = (f"`{word} {number}`" for word in words)
    return f"{', '.join(first)} or {last}"

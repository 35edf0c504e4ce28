"""The card under a cell that asks the person: what, why in the app's own words, by which rule, and the buttons.

A button that allows cannot be pressed in the first moments after the question has changed: a click that
was meant for something else does not hit it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import ipywidgets

from kernel_runtime.domain.rules import Span
from kernel_runtime.jupyter.page_text import one_line
from kernel_runtime.jupyter.panels.acting import Ticker, row, show
from kernel_runtime.jupyter.panels.differences import escape
from kernel_runtime.jupyter.panels.questions import meaning
from kernel_runtime.jupyter.panels.style import SHEET
from kernel_runtime.jupyter.verdicts import sentence

if TYPE_CHECKING:
    from kernel_runtime.domain.question import Question
    from kernel_runtime.jupyter.panels.questions import Open, Questions

ARM_SECONDS = 0.7


class Card:
    """One card; it shows the oldest open question, and lists the others."""

    def __init__(self, questions: Questions, arm: float = ARM_SECONDS) -> None:
        self._questions = questions
        self._arm = arm
        self._shown: Open | None = None
        self._arming: asyncio.TimerHandle | None = None
        self._over = False
        self._body, self._count, self._rest = (ipywidgets.HTML() for _ in range(3))
        self.once = self._button("Allow once", Span.ONCE)
        self.session = self._button("This session", Span.SESSION)
        self.always = self._button("Always for this version", Span.ALWAYS)
        self.deny = self._button("Deny", None)
        self.deny.button_style = "primary"
        self.deny_all = ipywidgets.Button(description="Deny all", tooltip="and whatever this cell still asks")
        self.deny_all.on_click(lambda _: self._questions.deny_all())
        self._actions = row(self.deny, self.once, self.session, self.always, self.deny_all)
        parts = [ipywidgets.HTML(SHEET), self._body, self._actions, self._count, self._rest]
        self.root = ipywidgets.VBox(parts).add_class("kr-panel").add_class("kr-card")
        self._ticker = Ticker(1.0, self._tick)
        self.draw()

    def _button(self, label: str, span: Span | None) -> Any:
        button = ipywidgets.Button(description=label, disabled=span is not None)
        button.on_click(lambda _: self._pressed(span, button))
        return button

    def _pressed(self, span: Span | None, button: Any) -> None:
        """What a client says of a button that is disabled counts for nothing."""
        if self._shown is not None and not button.disabled:
            self._questions.answer(self._shown, span)

    # -- what is shown ---------------------------------------------------------------------------

    async def look(self) -> None:
        """It is told of what changes."""

    def still(self) -> tuple[str, str]:
        """The question as text and as HTML, for where nobody can press."""
        found = self._shown
        plain = "kernel_runtime: nothing is asked" if found is None else _plain(found.question)
        return plain, f'{SHEET}<div class="kr-panel kr-card">{self._body.value}{self._rest.value}</div>'

    def close(self) -> None:
        """No more questions are shown here."""
        self._over = True
        self._ticker.close()
        self._disarm()
        self.draw()

    def draw(self) -> None:
        """What is open by now."""
        waiting = [] if self._over else self._questions.open
        found = waiting[0] if waiting else None
        if found is not self._shown:
            self._shown = found
            self._rearm()
        show(self._actions, found is not None)
        show(self.deny_all, len(waiting) > 1)
        show(self._count, found is not None)
        (self.root.remove_class if found else self.root.add_class)("kr-over")
        self._body.value = _NOTHING if found is None else _asked(found.question, len(waiting))
        self._rest.value = self._others(waiting[1:])
        self._countdown()

    def _rearm(self) -> None:
        self._disarm()
        if self._shown is not None:
            self._arming = asyncio.get_running_loop().call_later(self._arm, self._enable, False)

    def _disarm(self) -> None:
        if self._arming is not None:
            self._arming.cancel()
        self._enable(True)

    def _enable(self, disabled: bool) -> None:
        for button in (self.once, self.session, self.always):
            button.disabled = disabled

    async def _tick(self) -> None:
        self._countdown()

    def _countdown(self) -> None:
        if self._shown is None:
            return
        left, whole = self._shown.left, self._shown.question.seconds
        width = 100 * left / whole if whole else 0
        self._count.value = (
            f'<span class="kr-count"><span style="width:{width:.0f}%"></span></span>'
            f'<span class="kr-faint" role="timer">denied in {left:.0f} s if nobody answers</span>'
        )

    def _others(self, waiting: list[Open]) -> str:
        items = "".join(f"<li><code><bdi>{escape(each.question.what)}</bdi></code></li>" for each in waiting)
        listed = f'<div class="kr-waiting">Waiting behind it: <ul>{items}</ul></div>' if items else ""
        unasked = self._questions.unasked
        denied = f'<p class="kr-faint">{unasked} more were denied without asking you.</p>' if unasked else ""
        told = "".join(f"<li>{escape(line)}</li>" for line in self._questions.told)
        return f"{listed}{denied}{f'<ul class=kr-faint>{told}</ul>' if told else ''}"


_NOTHING = '<div class="kr-head"><b>Permission</b><span>nothing is asked now</span></div>'


def _asked(question: Question, waiting: int) -> str:
    more = f"<span>1 of {waiting} questions</span>" if waiting > 1 else ""
    why = "".join(f"<div>“<bdi>{escape(line)}</bdi>”</div>" for line in question.why if line)
    words = "<small>The app’s own words, not checked by anybody:</small>"
    quoted = (
        f"<blockquote>{words}{why}</blockquote>" if why else '<p class="kr-faint">It gives no reason.</p>'
    )
    beware = (
        f'<p class="kr-beware"><b>Beware:</b> {escape(question.warning)}.</p>' if question.warning else ""
    )
    return (
        f'<div class="kr-head"><b>Permission</b><span>kernel_runtime asks you</span>{more}</div>'
        f'<div class="kr-question" role="alertdialog"><p class="kr-what"><bdi>{_name(question)}</bdi> wants to '
        f"<bdi>{escape(meaning(question.request.scope))}</bdi></p><p><code><bdi>{escape(question.what)}</bdi></code></p>"
        f"{beware}{quoted}"
        f'<p class="kr-faint">Asked because {escape(question.reason)} (<bdi>{escape(question.rule)}</bdi>).</p></div>'
    )


def _name(question: Question) -> str:
    return f"“{escape(question.app or 'this notebook')}” {escape(question.version)}".strip()


def _plain(question: Question) -> str:
    name = one_line(question.app or "this notebook", 120)
    what, rule = one_line(question.what, 300), one_line(question.rule, 200)
    why = "".join(f'\nits own words: "{one_line(line, 300)}"' for line in question.why if line)
    beware = f"\nbeware: {question.warning}" if question.warning else ""
    return sentence(f"kernel_runtime asks: {name} wants {what} ({rule}){beware}{why}")

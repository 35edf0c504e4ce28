"""Completion of the arguments of ``%%sandbox``, ``%%app`` and ``%sandbox``, which IPython does not do itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

from kernel_runtime.domain.level import Level
from kernel_runtime.domain.manifest_words import Next
from kernel_runtime.jupyter import sandbox_states
from kernel_runtime.jupyter.advice import Mode
from kernel_runtime.jupyter.app_completion import OF_VARIABLES, in_head
from kernel_runtime.jupyter.app_completion import OPTIONS as OF_APPS
from kernel_runtime.jupyter.parameters import assigned_names

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from kernel_runtime.jupyter.guests import Guests

OPTIONS = (
    "--name",
    "--memory",
    "--time",
    "--cpu",
    "--cpus",
    "--session",
    "--pids",
    "--disk",
    "--inodes",
    "--file-size",
    "--open-files",
    "--messages",
    "--network",
    "--bandwidth",
    "--output-limit",
    "--idle",
    "--level",
    "-i",
    "-o",
    "--in",
    "--out",
    "--fresh",
    "--check",
    "--policy",
)
ACTIONS = ("list", "resources", "permissions", "logs", "kill", "reset", *sandbox_states.ACTIONS)
#: Actions that name a guest.
_OF_GUESTS = ("resources", "permissions", "kill", "reset")
_AMOUNTS = {
    "--memory": ("256M", "512M", "1G", "2G"),
    "--disk": ("64M", "256M", "1G"),
    "--output-limit": ("1M", "8M", "64M"),
    "--time": ("10s", "30s", "5m"),
    "--cpu": ("10s", "30s", "5m"),
    "--cpus": ("0.5", "1", "2"),
    "--session": ("10m", "1h", "8h"),
    "--pids": ("16", "32", "64"),
    "--inodes": ("1000", "10000"),
    "--file-size": ("1M", "16M"),
    "--open-files": ("64", "256", "1024"),
    "--messages": ("100", "1000"),
    "--network": ("100M", "1G"),
    "--bandwidth": ("1M", "10M"),
    "--idle": ("10m", "30m", "2h"),
}


class SandboxCompletion:
    """A matcher for IPython's completer, and its registration."""

    def __init__(self, shell: InteractiveShell, guests: Guests) -> None:
        self._shell = shell
        self._guests = guests
        self._matcher = self._make_matcher()

    def register(self) -> None:
        self._shell.Completer.custom_matchers.append(self._matcher)

    def unregister(self) -> None:
        if self._matcher in self._shell.Completer.custom_matchers:
            self._shell.Completer.custom_matchers.remove(self._matcher)

    def _make_matcher(self) -> Any:
        @context_matcher(identifier="kernel_runtime.sandbox")
        def matcher(context: CompletionContext) -> Any:
            found = self._next(context)
            if found is None:
                return {"completions": []}
            texts = [text for text in found.offers if text.startswith(found.word)]
            return {
                "completions": [SimpleCompletion(text, type="param") for text in texts],
                "matched_fragment": found.word,
                "suppress": True,
            }

        return matcher

    def _next(self, context: CompletionContext) -> Next | None:
        """What may stand where the cursor is; None where that is not ours to know."""
        lines = context.full_text.split("\n")[: context.cursor_line + 1]
        if context.cursor_line and lines[0].split()[:1] == ["%%app"]:
            return in_head([*lines[:-1], context.text_until_cursor])
        words = line_words(context)
        if words is None:
            return None
        fragment = words.pop()
        return Next(self._offers(words, context), fragment)

    def _offers(self, words: list[str], context: CompletionContext) -> list[str]:
        """What may stand where the cursor is, after ``words`` (the magic itself first)."""
        if words[0] == "%sandbox":
            return self._of_line(words)
        before = words[-1]
        if before == "--name":
            return self._guests.names()
        if before == "--level":
            return [str(level) for level in Level]
        if before == "--check":
            return [str(mode) for mode in Mode]
        if before in _AMOUNTS:
            return list(_AMOUNTS[before])
        if before in ("-i", "--in"):
            return self._variables()
        if before in ("-o", "--out"):
            return assigned_names(context.full_text.partition("\n")[2])
        is_app = words[0] == "%%app"
        options = [
            option
            for option in (OF_APPS if is_app else OPTIONS)
            if option in OF_VARIABLES or option not in words
        ]
        return [*options, *self._guests.apps()] if is_app and len(words) == 1 else options

    def _of_line(self, words: list[str]) -> list[str]:
        """After ``%sandbox``: an action, then a guest or one of its states."""
        if len(words) == 1:
            return list(ACTIONS)
        if words[1] == "--name" or words[1] in sandbox_states.ACTIONS:
            return sandbox_states.completions(words[1:], self._guests)
        return self._guests.names() if len(words) == 2 and words[1] in _OF_GUESTS else []

    def _variables(self) -> list[str]:
        hidden = self._shell.user_ns_hidden
        return sorted(
            name
            for name, value in self._shell.user_ns.items()
            if not name.startswith("_") and not (name in hidden and hidden[name] is value)
        )


def line_words(context: CompletionContext) -> list[str] | None:
    """The words of a ``%%sandbox``, ``%%app`` or ``%sandbox`` line up to the cursor, the unfinished one
    last; None elsewhere.
    """
    text = context.text_until_cursor
    words = text.split()
    if text[:1].isspace() or text[-1:].isspace():
        words.append("")
    if len(words) < 2:
        return None
    is_cell = words[0] in ("%%sandbox", "%%app") and context.cursor_line == 0
    return words if is_cell or words[0] == "%sandbox" else None

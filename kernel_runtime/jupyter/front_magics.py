"""Magics that the trusted front answers, in the line of cells: a small registry and what all share.

A cell that is nothing but such magics, one or several lines, never reaches the guest. Each magic is a
``Magic``: its parser, which is its help as well, what it does, and what completes its arguments.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from kernel_runtime.domain.amounts import is_whole
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.magics import GATE_ACTIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator

    from kernel_runtime.domain.records import Records
    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.jupyter.guest import Session

T = TypeVar("T")

_LINE = re.compile(r"(?P<ask>\?{0,2})%(?P<name>[a-z]+)(?P<asked>\?{0,2})(?:\s+(?P<rest>.*))?")
_GATE = re.compile(rf"(?:{'|'.join(GATE_ACTIONS)})\s+#?\d+\b.*", re.ASCII)

#: Instead of arguments: how is it used?
HELP_WORDS = frozenset({"?", "??", "-h", "--help"})

#: What a magic shows: a mime bundle.
Bundle = dict[str, Any]


class Bench(Protocol):
    """What magics work with: the session, what cells have shown, and a way to run one on. ``at``: what stands before
    their names here."""

    at: str
    records: Records

    async def session(self) -> Session:
        """The guest's session, started if need be."""

    async def unless_interrupted(self, work: Coroutine[Any, Any, T]) -> T:
        """What may be given up at any time: an interrupt ends it."""

    async def run_on(self, submit: Callable[[Any], Awaitable[Verdict | None]]) -> None:
        """Let a cell go on: its outputs and its error are those of the magic's cell."""

    async def panel(self, name: str) -> Bundle:
        """Open the panel of this magic in the magic's cell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Magic:
    """``run(bench, arguments)`` gives what is shown (None: nothing more). ``offers(session, words)``:
    what may stand after the words, options aside (None: the guest knows); ``raw``: arguments from this one on are one text."""

    name: str
    parser: Callable[[], Parser]
    run: Callable[[Bench, Any], Awaitable[Bundle | None]]
    offers: Callable[[Session, list[str]], Iterable[str] | None] = lambda session, words: ()
    raw: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One line of a cell: the magic, its arguments as written, whether its help is asked for."""

    magic: Magic
    rest: str
    help: bool = False


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and never ends the process."""

    def __init__(self, name: str, description: str) -> None:
        plain: dict[str, Any] = {"color": False} if sys.version_info >= (3, 14) else {}
        super().__init__(
            prog=f"%{name}",
            description=description,
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **plain,
        )

    def error(self, message: str) -> NoReturn:
        raise Invalid(f"{self.prog}: {message}; `{self.prog}?` shows how it is used")


def whole(text: str) -> int:
    """A whole number, as an argument of a magic."""
    if not is_whole(text.removeprefix("-")) or len(text) > 12:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, like 3")
    return int(text)


class FrontMagics:
    """The registry."""

    def __init__(self, magics: Iterable[Magic]) -> None:
        self._magics = {magic.name: magic for magic in magics}

    def __iter__(self) -> Iterator[str]:
        return iter(self._magics)

    def find(self, name: str) -> Magic | None:
        """The one of that name."""
        return self._magics.get(name)

    def recognise(self, code: str) -> list[Call] | None:
        """The calls that the cell consists of; None when there is anything else in it."""
        if "%" not in code:
            return None
        calls = []
        for line in code.splitlines():
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            call = self._call(text)
            if call is None:
                return None
            calls.append(call)
        return calls or None

    def _call(self, text: str) -> Call | None:
        found = _LINE.fullmatch(text)
        magic = self._magics.get(found["name"]) if found else None
        if found is None or magic is None:
            return None
        rest = found["rest"] or ""
        asks = bool(found["ask"] or found["asked"]) or rest.strip() in HELP_WORDS
        if magic.name == "gate" and not (_GATE.fullmatch(rest) or asks):
            return None  # it names a function of the guest's
        return Call(magic=magic, rest=rest, help=asks)

    def completions(self, line: str, session: Session | None) -> tuple[list[str], int] | None:
        """For a line up to the cursor: what may stand there, and how long the begun word is; None
        where the guest knows better."""
        words = line.split()
        if line[-1:].isspace() or not words:
            words.append("")
        if len(words) == 1:
            word = words[0]
            names = [f"%{name}" for name in sorted(self._magics) if f"%{name}".startswith(word)]
            return (names, len(word)) if word.startswith("%") else None
        magic = self._magics.get(words[0][1:]) if words[0].startswith("%") else None
        if magic is None:
            return None
        found = offers(magic, words[1:-1], session)
        if found is None:
            return None
        return sorted({text for text in found if text.startswith(words[-1])}), len(words[-1])


def offers(magic: Magic, words: list[str], session: Session | None) -> list[str] | None:
    """What may stand after ``words``; options are each said once. None where the guest knows better."""
    options = [o for action in magic.parser()._actions for o in action.option_strings if o not in words]
    found = () if session is None else magic.offers(session, words)
    return None if found is None else [*options, *found]


async def perform(bench: Bench, call: Call) -> Bundle | None:
    """Answer one line; raises what prevents it, with a text that says what to do."""
    parser = call.magic.parser()
    if call.help:
        return {"text/plain": parser.format_help().rstrip()}
    return await call.magic.run(bench, parser.parse_args(words_of(call)))


def words_of(call: Call) -> list[str]:
    """As a shell would split them; of an expression nothing is taken away."""
    if call.magic.raw is not None:
        words = call.rest.split(maxsplit=call.magic.raw)
        return [*words[:1], "--", *words[1:]] if len(words) > 1 else words
    try:
        return shlex.split(call.rest)
    except ValueError as error:
        raise Invalid(f"%{call.magic.name}: {error} in {call.rest!r}") from None


def text(*lines: str) -> Bundle:
    """What is shown as text alone."""
    return {"text/plain": "\n".join(line for line in lines if line)}

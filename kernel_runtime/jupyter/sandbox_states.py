"""``%sandbox undo`` and its kin: the kernel's own magics for states, on a guest of ``%%sandbox``."""

from __future__ import annotations

import asyncio
import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Conflict, Invalid, NotFound
from kernel_runtime.domain.magics import GATE_ACTIONS
from kernel_runtime.jupyter import files_magic, front_magics, gate_magics, replay_magic, snapshot_magics
from kernel_runtime.jupyter.front_magics import Bundle, Call, FrontMagics, Magic, Parser, T, text
from kernel_runtime.jupyter.guest import Waits
from kernel_runtime.workers.cancelled import being_cancelled

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Coroutine

    from kernel_runtime.domain.records import Records
    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.jupyter.guest import Session, Sink
    from kernel_runtime.jupyter.guests import Guests

DEFAULT = "default"
#: What ``%snapshots`` does with one of them; the actions of that name are the same.
_ON_ONE = ("pin", "unpin", "drop")
_WORD = r"""'[^']*'|"[^"]*"|\S+"""
_LINE = re.compile(
    rf"(?:--name[\s=]\s*(?P<guest>{_WORD})\s+)?"
    r"(?P<action>[a-z]+)(?P<asks>\s*\?{1,2})?(?:\s+(?P<rest>.*))?"
)
_ASKED = re.compile(r"%sandbox\s+(?P<action>[a-z]+)\?{1,2}\s*")
#: In a line whose end is an expression, a guest is named before or after all of it.
_NAMED = re.compile(
    rf"(?:--name[\s=]\s*(?P<head>{_WORD})\s+)?(?P<rest>.*?)"
    r"""(?:\s+--name(?:=|\s+)(?P<tail>'[^']*'|"[^"]*"|[\w.\-]+))?"""
)


def _resume_parser() -> Parser:
    return Parser("resume", "Let a paused guest go on; its next cell does so, too.")


async def _resume(bench: front_magics.Bench, _: Any) -> Bundle:
    (await bench.session()).resume()
    return text("it goes on")


def _of_guest(magic: Magic) -> Magic:
    """The same for one guest of several."""

    def parser() -> Parser:
        made = magic.parser()
        made.prog = f"%sandbox {magic.name}"
        made.add_argument(
            "--name", dest="guest", default=DEFAULT, metavar="GUEST", help="the guest that is meant"
        )
        return made

    return replace(magic, parser=parser)


def _copies(magic: Magic) -> Magic:
    """``%gate`` for copies alone: ``%gate off`` is the guest's, as is setting one."""

    def offers(session: Session, words: list[str]) -> list[str]:
        return [word for word in magic.offers(session, words) or () if word != "off"]

    return replace(magic, offers=offers) if magic.name == "gate" else magic


MAGICS = FrontMagics(
    map(
        _of_guest,
        (
            *snapshot_magics.MAGICS,
            Magic(name="resume", parser=_resume_parser, run=_resume),
            *map(_copies, gate_magics.MAGICS),
            *replay_magic.MAGICS,
            *files_magic.MAGICS,
        ),
    )
)
ACTIONS = (*MAGICS, *_ON_ONE)
_MENTIONED = re.compile(
    rf"%(?=(?:{'|'.join(set(MAGICS) - {'gate'})})\b|gate(?:\?| (?:{'|'.join(GATE_ACTIONS)})\b))"
)


def recognise(line: str) -> tuple[Call, str] | None:
    """What ``%sandbox`` is to do with states, and of which guest, as far as that stands outside the arguments;
    None when it is something else."""
    found = _LINE.fullmatch(line.strip())
    if found is None:
        return None
    action, rest = found["action"], found["rest"] or ""
    if action in _ON_ONE:
        action, rest = "snapshots", f"{action} {rest}"
    magic, guest = MAGICS.find(action), _plain(found["guest"]) or DEFAULT
    if magic is None:
        return None
    named = _NAMED.fullmatch(rest) if magic.raw is not None else None
    if named is not None:
        guest, rest = _plain(named["head"] or named["tail"]) or guest, named["rest"]
    return Call(
        magic=magic, rest=rest, help=bool(found["asks"]) or rest.strip() in front_magics.HELP_WORDS
    ), guest


def _plain(word: str | None) -> str:
    """A word without the quotes around it."""
    return word[1:-1] if word and word[0] in "'\"" and word[-1] == word[0] else word or ""


def asking(lines: list[str]) -> list[str]:
    """For IPython: a cell ``%sandbox undo?`` asks the magic, and not for a variable ``undo``."""
    asked = _ASKED.fullmatch(lines[0]) if len(lines) == 1 else None
    return lines if asked is None or asked["action"] not in ACTIONS else [f"%sandbox {asked['action']} ?\n"]


def arguments(call: Call, guest: str) -> argparse.Namespace:
    """Its arguments; ``guest`` in them is whose states are meant."""
    if call.magic.name == "gate" and call.rest.split()[:1] not in [[action] for action in GATE_ACTIONS]:
        raise Invalid(
            f"%sandbox gate: {' | '.join(GATE_ACTIONS)} N is for copies that were made at gates. A gate itself is "
            "set in the code: `%gate FUNCTION` in a cell of %%sandbox; `%sandbox gate?` shows more"
        )
    return call.magic.parser().parse_args(["--name", guest, *front_magics.words_of(call)])


def help_of(call: Call) -> Bundle:
    """How it is used."""
    return text(_here(call.magic.parser().format_help().rstrip(), "%sandbox "))


class Bench:
    """See ``front_magics.Bench``. ``going_on``: what runs on a cell of the guest's, when that is what was asked for:
    it is begun in the guests' loop while the thread of the cell shows what comes."""

    def __init__(self, session: Session, records: Records, guest: str) -> None:
        self.at = _at(guest)
        self.records = records
        self.going_on: Callable[[Sink], Awaitable[Verdict | None]] | None = None
        self._session = session
        self._waits = Waits()

    def interrupt(self) -> None:
        """What is waited for, or else the guest's cell."""
        if not self._waits.interrupt():
            self._session.interrupt()

    async def unless_interrupted(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._waits.unless_interrupted(work)
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            raise Conflict("interrupted") from None

    async def session(self) -> Session:
        await self._session.ready()
        return self._session

    async def run_on(self, submit: Callable[[Sink], Awaitable[Verdict | None]]) -> None:
        self.going_on = submit

    async def panel(self, name: str) -> Bundle:
        raise Conflict(f"{name} opens no panel here")

    async def perform(self, magic: Magic, asked: argparse.Namespace) -> Bundle | None:
        """What is to be shown; errors say what to do, as it is written here."""
        try:
            return await magic.run(self, asked)
        except (Invalid, NotFound, Conflict) as error:
            error.args = (_here(str(error), self.at),)
            raise


def as_here(said: str, guest: str) -> str:
    """A text of the kernel's about states, for a person with this guest."""
    return _here(said, _at(guest))


def _at(guest: str) -> str:
    """What stands before the names of magics."""
    return "%sandbox " if guest == DEFAULT else f"%sandbox --name {shlex.quote(guest)} "


def _here(said: str, at: str) -> str:
    """A text of ours, with the magics that it mentions as they are called here."""
    return _MENTIONED.sub(lambda _: at, said)


def completions(words: list[str], guests: Guests) -> list[str]:
    """What may stand after ``%sandbox`` and these words, where they begin with an action for states or a guest."""
    words, guest = list(words), DEFAULT
    if words[-1] == "--name":
        return guests.names()
    named = "--name" in words
    if named:
        place = words.index("--name")
        guest = words[place + 1]
        del words[place : place + 2]
    if not words:
        return list(ACTIONS)
    if words[0] in _ON_ONE:
        words.insert(0, "snapshots")
    magic = MAGICS.find(words[0])
    session = guests.get(guest).watched if guest in guests.names() else None
    found = [] if magic is None else front_magics.offers(magic, words[1:], session)
    return [word for word in found or () if not (named and word == "--name")]

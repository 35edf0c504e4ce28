"""``%gates`` and ``%gate show|eval|set|resume|drop N``: the copies that were made at gates.

``%gate FUNCTION`` itself is the guest's: it names a function of the notebook's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.magics import GATE_ACTIONS
from kernel_runtime.jupyter.front_magics import Bench, Bundle, Magic, Parser, text
from kernel_runtime.jupyter.state_text import said

if TYPE_CHECKING:
    from kernel_runtime import wire
    from kernel_runtime.jupyter.guest import Session

_HELP = """In the sandbox, beside other code:

  %gate FUNCTION [if EXPR] [--wait]   the next call (for which EXPR holds) makes a frozen copy there;
                                      the cell goes on, or with --wait ends there
  %gate off FUNCTION                  gives the function its own code back
  %gate                               lists the gates that are set

For the copy number N, in a cell of its own (%gates lists them):

  %gate show N             the calls at the gate with their local variables
  %gate eval N EXPR        an expression there; it changes nothing
  %gate set N NAME EXPR    a local variable is to have another value when it goes on
  %gate resume N           the copy becomes the live state and its cell goes on to its end
  %gate drop N             forget it"""


def _gate_parser() -> Parser:
    parser = Parser("gate", _HELP)
    parser.add_argument("action", choices=GATE_ACTIONS, metavar="ACTION")
    parser.add_argument("rest", nargs="?", default="", metavar="N …")
    return parser


async def _gate(bench: Bench, asked: Any) -> Bundle | None:
    session = await bench.session()
    number, _, rest = asked.rest.partition(" ")
    rest = rest.strip()
    if asked.action == "eval":
        _demand(rest, "%gate eval N EXPR: which expression?")
        return text(said(await session.stops.evaluate(number, rest)))
    if asked.action == "set":
        name, _, expression = rest.partition(" ")
        expression = expression.strip().removeprefix("= ").strip()
        _demand(name.isidentifier() and expression, "%gate set N NAME EXPR: which variable, which value?")
        value = await session.stops.set(number, name, expression)
        return text(f"{name} will be {said(value)} when {bench.at}gate resume {number} goes on")
    _demand(not rest, f"%gate {asked.action} N: nothing may follow the number")
    if asked.action == "show":
        return text(*_stack(await session.stops.stack(number)))
    if asked.action == "drop":
        snapshot = session.stops.find(number)[0]
        session.snapshots.drop(snapshot.number)
        return text(f"dropped {snapshot.title}")
    await bench.run_on(lambda sink: session.resume_gate(number, sink))
    return None


def _demand(holds: object, why: str) -> None:
    if not holds:
        raise Invalid(f"{why} `%gate?` shows how it is used")


def _stack(levels: list[wire.Level]) -> list[str]:
    lines = []
    for level in levels:
        lines.append(said(level.place))
        lines += [f"    {said(name)} = {said(value)}" for name, value in level.names.items()]
    return lines


def _gates_parser() -> Parser:
    return Parser(
        "gates", "Show the copies that were made at gates; `%gate?` says what can be done with them."
    )


async def _gates(bench: Bench, _: Any) -> Bundle:
    made = (await bench.session()).stops.listing()
    if not made:
        return text("no copies yet; %gate FUNCTION makes one at the next call")
    return text(
        *(f"{snapshot.title}  in {said(snapshot.gate)}, of cell {snapshot.cell}" for snapshot in made)
    )


def _offers(session: Session, words: list[str]) -> list[str] | None:
    if not words:
        return [*GATE_ACTIONS, "off"]
    if words[0] == "off":
        return None  # functions of the guest's
    return [str(made.number) for made in session.stops.listing()] if len(words) == 1 else []


MAGICS = (
    Magic(name="gate", parser=_gate_parser, run=_gate, offers=_offers, raw=1),
    Magic(name="gates", parser=_gates_parser, run=_gates),
)

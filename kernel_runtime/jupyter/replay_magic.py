"""``%replay N``: a cell once more on the state it first had, and what differs. See ``workers.replay``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime.jupyter import state_text
from kernel_runtime.jupyter.front_magics import Bench, Bundle, Magic, Parser, whole
from kernel_runtime.jupyter.snapshot_magics import names
from kernel_runtime.workers.replay import replay

if TYPE_CHECKING:
    from kernel_runtime.jupyter.guest import Session


def _parser() -> Parser:
    parser = Parser(
        "replay",
        "Run cell N again on the state it first had, and show what differs in outputs and variables. "
        "The present state is left alone; files that the cell writes are written again.",
    )
    parser.add_argument("cell", type=whole, metavar="N", help="the number in front of the cell")
    parser.add_argument(
        "--from", dest="start", metavar="SNAPSHOT", help="on this state instead; needed where it is not kept"
    )
    return parser


async def _replay(bench: Bench, asked: Any) -> Bundle:
    done = await replay(await bench.session(), bench.records, asked.cell, asked.start or None)
    return {"text/plain": state_text.clean(str(done))}


def _offers(session: Session, words: list[str]) -> list[str]:
    if words and words[-1] == "--from":
        return names(session, words)
    return [str(cell) for cell in session.snapshots.befores()] if not words else []


MAGICS = (Magic(name="replay", parser=_parser, run=_replay, offers=_offers),)

"""``%replay N``: a cell once more on the state it first had, and what differs.

The session goes over to that state, runs the cell, reads the variables, and comes back: for that long
the present state waits as a frozen copy. Files that the cell writes are written again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain import transcript
from kernel_runtime.domain.difference import show_uncompared
from kernel_runtime.domain.errors import NotFound
from kernel_runtime.jupyter import state_text
from kernel_runtime.jupyter.front_magics import Bench, Bundle, Magic, Parser, whole
from kernel_runtime.jupyter.records import Recorder
from kernel_runtime.jupyter.snapshot_magics import names

if TYPE_CHECKING:
    from kernel_runtime.domain.difference import Difference
    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.domain.transcript import Transcript
    from kernel_runtime.domain.verdict import Verdict
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
    session = await bench.session()
    first = bench.records.find(asked.cell)
    start = session.snapshots.find(asked.start) if asked.start else _before(session, asked.cell)
    async with session.snapshots.aside() as here:
        again, verdict = await _run(session, start, asked.cell, first.code)
        meant = _after(session, bench.records.after(asked.cell), here)
        lives = verdict is None or verdict.survived
        found = await session.diff(meant.number) if meant and lives else None
    return _shown(asked.cell, start, transcript.compare(first, again), found, verdict)


def _before(session: Session, cell: int) -> Snapshot:
    """The automatic snapshot before the cell; ``NotFound`` says before which cells there are some."""
    kept = session.snapshots.befores()
    if cell not in kept:
        known = ", ".join(map(str, sorted(kept))) or "none"
        raise NotFound(
            f"the state before cell {cell} is not kept any more; kept are those before the cells: {known}. "
            f"Or say on which state: %replay {cell} --from SNAPSHOT"
        )
    return kept[cell]


def _after(session: Session, following: int | None, here: Snapshot) -> Snapshot | None:
    """The state that the cell led to at first: the one before the next cell, or the present."""
    return here if following is None else session.snapshots.befores().get(following)


async def _run(session: Session, start: Snapshot, cell: int, code: str) -> tuple[Transcript, Verdict | None]:
    await session.snapshots.visit(start.number)
    again = transcript.Transcript(code=code)
    content = {
        "code": code,
        "silent": False,
        "store_history": True,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }
    request = wire.Request(
        id=f"replay-{cell}-{start.number}",
        kind="execute_request",
        content=msgspec.json.encode(content),
        count=cell,
    )
    return again, await session.submit(request, Recorder(again), keep=False)


def _shown(
    cell: int, start: Snapshot, outputs: list[str], found: Difference | None, verdict: Verdict | None
) -> Bundle:
    lines = [f"cell {cell} again, on the state {_named(start)}:"]
    if verdict is not None:
        lines.append(f"it did not end by itself: {verdict.explain()}")
    lines += ["outputs:", *(f"  {line}" for line in outputs)] if outputs else ["outputs: no difference"]
    if found is None:
        lines.append("variables: not compared, for the state after the cell is not there")
    elif found.changes:
        named = msgspec.structs.replace(found, a="first", b="again")
        lines += ["variables:", str(named)]
    else:
        lines += ["variables: no difference", *show_uncompared(found)]
    return {"text/plain": state_text.clean("\n".join(lines))}


def _named(start: Snapshot) -> str:
    return (
        f"of {start.name!r}" if start.name else f"after cell {start.cell}" if start.cell else "at the start"
    )


def _offers(session: Session, words: list[str]) -> list[str]:
    if words and words[-1] == "--from":
        return names(session, words)
    return [str(cell) for cell in session.snapshots.befores()] if not words else []


MAGICS = (Magic(name="replay", parser=_parser, run=_replay, offers=_offers),)

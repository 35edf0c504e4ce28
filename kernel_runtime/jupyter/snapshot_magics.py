"""``%undo`` and its kin: the state of the session, kept, shown, compared, and brought back."""

from __future__ import annotations

import shlex
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.amounts import show_bytes
from kernel_runtime.domain.errors import Invalid, NotFound
from kernel_runtime.domain.snapshot import Snapshot
from kernel_runtime.jupyter import state_html, state_text
from kernel_runtime.jupyter.front_magics import Bench, Bundle, Magic, Parser, text, whole
from kernel_runtime.workers.durable import kept_in_memory

if TYPE_CHECKING:
    from kernel_runtime.jupyter.guest import Session
    from kernel_runtime.jupyter.state_text import Restoration

_ACTIONS = ("pin", "unpin", "drop")


# -- going back ---------------------------------------------------------------------------------------


def _undo_parser() -> Parser:
    parser = Parser(
        "undo",
        "Go back to the state before the last N cells (default 1). The notebook's cells stay as they are, "
        "files that were written stay written; %redo takes it back until the next cell runs.",
    )
    parser.add_argument("cells", nargs="?", type=whole, default=1, metavar="N", help="how many cells")
    return parser


async def _undo(bench: Bench, asked: Any) -> Bundle:
    session = await bench.session()
    restoration = await session.snapshots.undo(asked.cells)
    cells = "the last cell" if asked.cells == 1 else f"the last {asked.cells} cells"
    return await went_back(session, f"undid {cells}: the state is the one after", restoration)


def _redo_parser() -> Parser:
    return Parser("redo", "Take back the last %undo or %restore. Possible until the next cell runs.")


async def _redo(bench: Bench, _: Any) -> Bundle:
    session = await bench.session()
    return await went_back(session, "redone: the state is the one after", await session.snapshots.redo())


def _restore_parser() -> Parser:
    parser = Parser(
        "restore",
        "Go back (or over) to a snapshot, as often as you like. %redo brings back the state that you "
        "leave, until the next cell runs. Files that were written stay written.\n"
        "Where there is no snapshot of that name, or with --var or --force: bring the variables of the "
        "checkpoint NAME back from disk.",
    )
    parser.add_argument(
        "name", metavar="NAME", help="a snapshot's name or number, or a checkpoint's name or id"
    )
    parser.add_argument(
        "--reseed",
        action="store_true",
        help="random and np.random begin anew; generators of your own go on from where they were",
    )
    parser.add_argument(
        "--var",
        action="append",
        dest="names",
        metavar="VARIABLE",
        help="of a checkpoint: only this variable; may be repeated",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="a checkpoint: also under another Python, or other versions of packages",
    )
    return parser


async def _restore(bench: Bench, asked: Any) -> Bundle:
    session = await bench.session()
    if asked.names or asked.force:
        return await _from_disk(bench, session, asked, None)
    try:
        session.snapshots.find(asked.name)
    except NotFound as missing:
        return await _from_disk(bench, session, asked, missing)
    restoration = await session.snapshots.restore(asked.name, reseed=asked.reseed)
    title = state_text.quoted(restoration.snapshot)
    return await went_back(session, f"restored {title}, the state after", restoration)


async def _from_disk(bench: Bench, session: Session, asked: Any, missing: NotFound | None) -> Bundle:
    """A checkpoint of that name, if there is one: its variables come into the present state."""
    try:
        kept, revived = await bench.unless_interrupted(
            session.revive(asked.name, names=asked.names, force=asked.force)
        )
    except NotFound as neither:
        if missing is None:
            raise
        raise NotFound(f"{missing}. On disk: {neither}") from None
    return text(*state_text.revived(kept, revived, bench.at))


async def went_back(session: Session, what: str, restoration: Restoration) -> Bundle:
    """What came of it: which moment, how fast, what is not in it, which files stay as they are."""
    written = await state_text.written_by(session.written_since, restoration)
    return text(*state_text.restored(what, restoration, written))


# -- keeping ------------------------------------------------------------------------------------------


def _snapshot_parser() -> Parser:
    parser = Parser("snapshot", "Keep the present state; %restore brings it back in milliseconds.")
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="without one it has a number")
    parser.add_argument("--pin", action="store_true", help="keep it whatever the budget says")
    parser.add_argument("--durable", action="store_true", help="keep it on disk as well (%%checkpoint)")
    return parser


async def _snapshot(bench: Bench, asked: Any) -> Bundle:
    session = await bench.session()
    made = await session.snapshots.take(asked.name, pinned=asked.pin)
    lines = state_text.taken(made)
    if dropped := session.snapshots.take_dropped():
        lines.append(dropped)
    if asked.durable:
        again = f"{bench.at}checkpoint {shlex.quote(asked.name) if asked.name else ''}".rstrip()
        with kept_in_memory(made, f"`{again}`"):
            lines += state_text.kept(await bench.unless_interrupted(session.checkpoint(asked.name)))
    return text(*lines)


def _snapshots_parser() -> Parser:
    parser = Parser(
        "snapshots",
        "Show the snapshots as a tree; → marks the one that the present state came from.\n"
        "%snapshots pin NAME, %snapshots unpin NAME, %snapshots drop NAME change one.",
    )
    parser.add_argument("action", nargs="?", choices=_ACTIONS, metavar="pin|unpin|drop", help="what to do")
    parser.add_argument("name", nargs="?", metavar="NAME", help="a snapshot's name or number")
    return parser


async def _snapshots(bench: Bench, asked: Any) -> Bundle:
    snapshots = (await bench.session()).snapshots
    if asked.action is None:
        # The panel takes this place in a notebook; text and table stay for everything else.
        return {
            "text/plain": state_text.listing(snapshots.listing(), snapshots.base, snapshots.line, bench.at),
            "text/html": state_html.listing(snapshots.listing(), snapshots.base, snapshots.line),
        }
    if asked.name is None:
        raise Invalid(f"%snapshots {asked.action}: which one? Write its name or number after it")
    if asked.action == "drop":
        return text(f"dropped {state_text.quoted(snapshots.drop(asked.name))}")
    kept = snapshots.pin(asked.name, asked.action == "pin")
    return text(f"{asked.action}ned {state_text.quoted(kept)}")


def _branch_parser() -> Parser:
    parser = Parser(
        "branch",
        "Switch to the line of state NAME, where it was left; a new name begins a line that starts here. "
        "Without a name: list the lines.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a line of state")
    return parser


async def _branch(bench: Bench, asked: Any) -> Bundle:
    session = await bench.session()
    snapshots = session.snapshots
    if asked.name is None:
        return text(*(f"{'→' if line == snapshots.line else '·'} {line}" for line in snapshots.lines))
    left = snapshots.line
    came = await snapshots.branch(asked.name)
    if isinstance(came, Snapshot):
        back = f"{bench.at}branch {left}"
        return text(f"{asked.name!r} begins here; {back} goes back to the state that {left!r} has now")
    return await went_back(session, f"left {left!r} for {asked.name!r}, the state after", came)


def _checkpoint_parser() -> Parser:
    parser = Parser("checkpoint", "Keep the present state on disk: it survives the kernel and the host.")
    parser.add_argument("name", nargs="?", default="", metavar="NAME")
    return parser


async def _checkpoint(bench: Bench, asked: Any) -> Bundle:
    session = await bench.session()
    return text(*state_text.kept(await bench.unless_interrupted(session.checkpoint(asked.name))))


# -- looking ------------------------------------------------------------------------------------------


def _diff_parser() -> Parser:
    parser = Parser(
        "diff", "Show the variables that differ between two states: added (+), removed (-), changed (~)."
    )
    parser.add_argument("a", metavar="A", help="a snapshot's name or number")
    parser.add_argument("b", nargs="?", metavar="B", help="another one; without it: the present state")
    return parser


async def _diff(bench: Bench, asked: Any) -> Bundle:
    session = await bench.session()
    difference = await bench.unless_interrupted(session.diff(asked.a, asked.b))
    return {"text/plain": state_text.clean(str(difference)), "text/html": state_html.difference(difference)}


def _pause_parser() -> Parser:
    return Parser(
        "pause",
        "Stop everything in the guest and give memory back where the kernel can; the next cell goes on. A checkpoint that is "
        "being written is waited for.",
    )


async def _pause(bench: Bench, _: Any) -> Bundle:
    freed = await (await bench.session()).pause()
    return text(f"paused; {show_bytes(freed)} of memory given back; the next cell goes on")


def names(session: Session, words: list[str]) -> list[str]:
    """Snapshots to be named: the people's own, and the numbers of the others."""
    return [snapshot.name or str(snapshot.number) for snapshot in session.snapshots.listing()]


def _restorable(session: Session, words: list[str]) -> list[str]:
    if words[-1:] == ["--var"]:
        return []
    again = ["--var"] if "--var" in words else []
    named = [
        word for before, word in pairwise(["", *words]) if before != "--var" and not word.startswith("-")
    ]
    return again if named else [*again, *names(session, words), *session.checkpoint_titles]


def _lines(session: Session, words: list[str]) -> list[str]:
    return [] if words else [line for line in session.snapshots.lines if line != session.snapshots.line]


def _actions(session: Session, words: list[str]) -> list[str]:
    return list(_ACTIONS) if not words else names(session, words) if len(words) == 1 else []


def _two_names(session: Session, words: list[str]) -> list[str]:
    return names(session, words) if len(words) < 2 else []


MAGICS = (
    Magic(name="undo", parser=_undo_parser, run=_undo),
    Magic(name="redo", parser=_redo_parser, run=_redo),
    Magic(name="restore", parser=_restore_parser, run=_restore, offers=_restorable),
    Magic(name="snapshot", parser=_snapshot_parser, run=_snapshot),
    Magic(name="snapshots", parser=_snapshots_parser, run=_snapshots, offers=_actions),
    Magic(name="branch", parser=_branch_parser, run=_branch, offers=_lines),
    Magic(name="checkpoint", parser=_checkpoint_parser, run=_checkpoint),
    Magic(name="diff", parser=_diff_parser, run=_diff, offers=_two_names),
    Magic(name="pause", parser=_pause_parser, run=_pause),
)

"""``%sandbox undo`` and its kin: the states of a guest of ``%%sandbox``, kept and brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kernel_runtime.domain.errors import Invalid, KernelRuntimeError
from kernel_runtime.domain.snapshot import Snapshot
from kernel_runtime.jupyter import state_html, state_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.jupyter.guests import Guest

Bundle = dict[str, str]


class Options(NamedTuple):
    """``--pin`` and ``--reseed``, where they mean something."""

    pin: bool = False
    reseed: bool = False


def perform(guest: Guest, action: str, names: list[str], options: Options) -> Bundle:
    """What is to be shown; errors say what to do."""
    least, most, work = ACTIONS[action]
    if not least <= len(names) <= most:
        wanted = f"{least}" if least == most else f"{least} or {most}"
        raise Invalid(f"%sandbox {action}: {wanted} names, not {len(names)}; %sandbox? shows how it is used")
    return work(guest, names, options)


def _text(*lines: str) -> Bundle:
    return {"text/plain": "\n".join(lines)}


def _back(guest: Guest, what: str, came: state_text.Restoration) -> Bundle:
    try:
        written = guest.written_since(came.snapshot.number)
    except KernelRuntimeError:
        written = None
    return _text(*state_text.restored(what, came, written))


def _undo(guest: Guest, names: list[str], _: Options) -> Bundle:
    count = names[0] if names else "1"
    if not count.isdigit():
        raise Invalid(f"%sandbox undo: {count!r} is no number of cells")
    cells = "the last cell" if count == "1" else f"the last {count} cells"
    return _back(guest, f"undid {cells}: the state is the one after", guest.undo(int(count)))


def _redo(guest: Guest, *_: object) -> Bundle:
    return _back(guest, "redone: the state is the one after", guest.redo())


def _snapshot(guest: Guest, names: list[str], options: Options) -> Bundle:
    return _text(*state_text.taken(guest.snapshot(names[0] if names else "", pin=options.pin)))


def _restore(guest: Guest, names: list[str], options: Options) -> Bundle:
    came = guest.restore(names[0], reseed=options.reseed)
    return _back(guest, f"restored {state_text.quoted(came.snapshot)}, the state after", came)


def _snapshots(guest: Guest, *_: object) -> Bundle:
    shown = guest.snapshots(), guest.current, guest.line
    return {"text/plain": state_text.listing(*shown), "text/html": state_html.listing(*shown)}


def _branch(guest: Guest, names: list[str], _: Options) -> Bundle:
    left = guest.line
    if not names:
        return _text(*(f"{'→' if line == left else '·'} {line}" for line in guest.lines))
    came = guest.branch(names[0])
    if isinstance(came, Snapshot):
        return _text(f"{names[0]!r} begins here; %sandbox branch {left} goes back to {left!r}")
    return _back(guest, f"left {left!r} for {names[0]!r}, the state after", came)


def _diff(guest: Guest, names: list[str], _: Options) -> Bundle:
    found = guest.diff(*names)
    return {"text/plain": state_text.clean(str(found)), "text/html": state_html.difference(found)}


def _pin(guest: Guest, names: list[str], _: Options) -> Bundle:
    return _text(f"pinned {state_text.quoted(guest.pin(names[0]))}")


def _drop(guest: Guest, names: list[str], _: Options) -> Bundle:
    return _text(f"dropped {state_text.quoted(guest.drop(names[0]))}")


#: By name: fewest and most words after it, and what it does.
ACTIONS: dict[str, tuple[int, int, Callable[[Guest, list[str], Options], Bundle]]] = {
    "undo": (0, 1, _undo),
    "redo": (0, 0, _redo),
    "snapshot": (0, 1, _snapshot),
    "snapshots": (0, 0, _snapshots),
    "restore": (1, 1, _restore),
    "branch": (0, 1, _branch),
    "diff": (1, 2, _diff),
    "pin": (1, 1, _pin),
    "drop": (1, 1, _drop),
}

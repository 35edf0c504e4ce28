"""Snapshots: moments of a session that can come back, as a tree, within a budget."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.amounts import GIB, is_whole, show_amount
from kernel_runtime.domain.checkpoint import Checkpoint, Retention
from kernel_runtime.domain.errors import Conflict, Invalid, NotFound
from kernel_runtime.domain.limits import parse_bytes, parse_count, parse_seconds, parse_share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence, Set

_NAME = re.compile(r"[^\W\d][\w.\-]{0,63}")


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One moment. ``parent``: the snapshot that its line came from; ``cell``: execution count of the
    last cell it contains; ``made``: seconds since the epoch; ``automatic``: taken before a cell or an
    undo, not by a person; ``pause``: seconds that the session stood still for it; ``size``: bytes it
    holds (its share of pages that several hold), None while not measured; ``external``: what it
    does not have that the session had (sockets, child processes); ``gate``: where in the code, if it
    was made at a gate; ``checkpoint``: what was kept on disk with it, told to who asked for both.
    """

    number: int
    name: str = ""
    parent: int | None = None
    line: str = "main"
    cell: int = 0
    made: float = 0.0
    automatic: bool = False
    pinned: bool = False
    pause: float = 0.0
    size: int | None = None
    external: list[str] = []
    gate: str = ""
    checkpoint: Checkpoint | None = None

    @property
    def title(self) -> str:
        """What people call it: its name, or its number."""
        return self.name or f"#{self.number}"


#: Fields of a budget, and what each must be.
_AMOUNTS: tuple[tuple[str, Any, str], ...] = (
    ("automatic", int, "whole number"),
    ("count", int, "whole number"),
    ("memory", int | float, "number of bytes"),
    ("share", int | float, "number, like 0.05"),
    ("pause", int | float, "number of seconds"),
)


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What snapshots may take. ``automatic``: how many of those before cells are kept; ``count``: how
    many others; ``memory``: bytes of all of them together; ``share``: an automatic one may cost at
    most this share of the computing that it saves, or ``pause`` seconds of work if that is more.
    """

    automatic: int = 8
    count: int = 32
    memory: int = 2 * GIB
    share: float = 0.05
    pause: float = 0.1

    @property
    def text(self) -> str:
        """For those who make snapshots."""
        return f"{self.count} snapshots and {show_amount('memory', self.memory)}"

    def check(self) -> Budget:
        """Itself; ``Invalid`` where it makes no sense."""
        for name, kind, wanted in _AMOUNTS:
            if not isinstance(value := getattr(self, name), kind):
                raise Invalid(f"snapshots: {name} is a {wanted}, not {value!r}")
        if min(self.automatic, self.count, self.memory) < 0 or self.share < 0 or self.pause < 0:
            raise Invalid(f"snapshots: a budget cannot be negative ({self})")
        return self


#: The same for ``Saving`` and its ``Retention``.
_WHEN: tuple[tuple[str, Any, str], ...] = (
    ("every", int | float, "number of seconds"),
    ("cells", int, "whole number"),
)
_HOW_LONG: tuple[tuple[str, Any, str], ...] = (
    ("count", int, "whole number"),
    ("age", int | float, "number of seconds"),
    ("bytes", int, "number of bytes"),
)


class Saving(msgspec.Struct, frozen=True, kw_only=True):
    """When a checkpoint is made without being asked for: ``every`` so many seconds in which a cell has run, or so
    many ``cells`` after the last one (None: not), never while a cell runs; ``retention``: which of them are kept.
    """

    every: float | None = None
    cells: int | None = None
    retention: Retention | None = None

    def is_due(self, seconds: float, cells: int) -> bool:
        """Whether it is time, so long and so many cells after the last one."""
        by_time = self.every is not None and seconds >= self.every
        return by_time or (self.cells is not None and cells >= self.cells)

    def check(self) -> Saving:
        """Itself; ``Invalid`` where it makes no sense."""
        for name, kind, wanted in _WHEN:
            _check_amount(name, getattr(self, name), kind, wanted)
        if not isinstance(self.retention, Retention | None):
            raise Invalid(f"saving: retention is one, like Retention(count=5), not {self.retention!r}")
        for name, kind, wanted in _HOW_LONG if self.retention is not None else ():
            _check_amount(name, getattr(self.retention, name), kind, wanted)
        return self


def _check_amount(name: str, value: Any, kind: Any, wanted: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, kind) or not value > 0:
        raise Invalid(f"saving: {name} is a {wanted} above 0, or None, not {value!r}")


def _parse_part(text: str, place: str) -> float:
    return parse_share(text, place, "a share of the computing that is saved; write 0.05 or 5%")


#: Settings by name: the field of ``Budget``, and how its text is read.
SETTINGS: dict[str, tuple[str, Callable[[Any, str], float]]] = {
    "undo": ("automatic", parse_count),
    "snapshots": ("count", parse_count),
    "snapshot_memory": ("memory", parse_bytes),
    "snapshot_share": ("share", _parse_part),
}


#: Settings of ``Saving``, in the same way.
SAVING: dict[str, tuple[str, Callable[[Any, str], float]]] = {
    "checkpoint_every": ("every", parse_seconds),
    "checkpoint_cells": ("cells", parse_count),
}
#: Settings of its ``Retention``.
RETENTION: dict[str, tuple[str, Callable[[Any, str], float]]] = {
    "checkpoints": ("count", parse_count),
    "checkpoint_age": ("age", parse_seconds),
    "checkpoint_bytes": ("bytes", parse_bytes),
}


def parse_saving(values: Mapping[str, str], base: Saving, place: str) -> Saving:
    """Text by setting's name → ``Saving`` over ``base``; other names are left alone."""
    kept = _parsed(RETENTION, values, place)
    retention = msgspec.structs.replace(base.retention or Retention(), **kept) if kept else base.retention
    return msgspec.structs.replace(base, **_parsed(SAVING, values, place), retention=retention)


def _parsed(
    settings: dict[str, tuple[str, Callable[[Any, str], float]]], values: Mapping[str, str], place: str
) -> dict[str, float]:
    return {
        field: read(values[name], f"{place}.{name}")
        for name, (field, read) in settings.items()
        if name in values
    }


def parse_budget(values: Mapping[str, str], base: Budget, place: str) -> Budget:
    """Text by setting's name → ``Budget`` over ``base``; other names are left alone."""
    return msgspec.structs.replace(base, **_parsed(SETTINGS, values, place)).check()


def check_name(name: str, taken: Iterable[Snapshot] = (), *, of: str = "snapshot") -> str:
    """A name that people can type again; ``Invalid`` or ``Conflict`` otherwise."""
    if not _NAME.fullmatch(name) or name[0].isdigit():  # to a pattern, ² is a letter
        raise Invalid(
            f"{of}: {name!r} is not a name; begin with a letter, then letters, digits, '_', '-' or '.'"
        )
    if any(known.name == name for known in taken):
        raise Conflict(f"there is a snapshot {name!r} already; choose another name, or drop that one")
    return name


def find(snapshots: Sequence[Snapshot], name: str | int) -> Snapshot:
    """By name, or by number (``3`` or ``"#3"``); ``NotFound`` names what there is."""
    text = str(name).strip()
    digits = text.lstrip("#")
    number = int(digits) if is_whole(digits) and len(text) < 12 else None
    for snapshot in snapshots:
        if (text and snapshot.name == text) or snapshot.number == number:
            return snapshot
    known = ", ".join(s.title for s in snapshots if not s.automatic) or "none yet"
    raise NotFound(f"there is no snapshot {text!r} (it may have been dropped); there are: {known}")


def over_budget(
    snapshots: Sequence[Snapshot], budget: Budget, spared: Set[int] = frozenset()
) -> list[Snapshot]:
    """Which to drop: of the automatic ones and of the others the oldest beyond their counts, then the
    oldest of all beyond the memory. Pinned ones stay whatever they take; so do the ``spared`` ones, which
    are counted all the same.
    """
    loose = sorted((s for s in snapshots if not s.pinned), key=lambda s: s.number)
    automatic = [s for s in loose if s.automatic]
    others = [s for s in loose if not s.automatic]
    beyond = [*_oldest(automatic, budget.automatic), *_oldest(others, budget.count)]
    dropped = [s for s in beyond if s.number not in spared]
    held = sum(s.size or 0 for s in snapshots if s not in dropped)
    for snapshot in loose:
        if held <= budget.memory:
            break
        if snapshot not in dropped and snapshot.number not in spared:
            dropped.append(snapshot)
            held -= snapshot.size or 0
    return dropped


def _oldest(snapshots: list[Snapshot], kept: int) -> list[Snapshot]:
    return snapshots[: max(0, len(snapshots) - kept)]


def show_tree(snapshots: Sequence[Snapshot], current: int | None) -> list[str]:
    """The tree as lines of text, oldest first; ``current``: the one the session came from last."""
    known = {s.number for s in snapshots}
    below: dict[int | None, list[Snapshot]] = {}
    for snapshot in snapshots:
        parent = snapshot.parent if snapshot.parent in known else None
        below.setdefault(parent, []).append(snapshot)
    lines: list[str] = []
    _show_below(below, None, 0, current, lines)
    return lines


def _show_below(
    below: dict[int | None, list[Snapshot]],
    parent: int | None,
    depth: int,
    current: int | None,
    lines: list[str],
) -> None:
    """A chain stays on one level; only where it forks does it move to the right."""
    children = below.get(parent, [])
    for child in children:
        inner = depth + (1 if len(children) > 1 and child is not children[-1] else 0)
        lines.append(f"{'  ' * inner}{_describe(child, child.number == current)}")
        _show_below(below, child.number, inner, current, lines)


def _describe(snapshot: Snapshot, is_current: bool) -> str:
    place = f"gate in {snapshot.gate}, cell" if snapshot.gate else "after cell"
    marks = [f"{place} {snapshot.cell}", snapshot.line]
    if snapshot.made:
        marks.append(time.strftime("%H:%M:%S", time.localtime(snapshot.made)))
    if snapshot.size is not None:
        marks.append(show_amount("memory", snapshot.size))
    marks += [
        word for word, holds in (("automatic", snapshot.automatic), ("pinned", snapshot.pinned)) if holds
    ]
    return f"{'→' if is_current else '·'} {snapshot.title}  ({', '.join(marks)})"

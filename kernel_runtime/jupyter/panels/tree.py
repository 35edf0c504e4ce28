"""Where the snapshots stand when their tree is drawn: one row each, newest first, in lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernel_runtime.domain.snapshot import Snapshot


class Edge(msgspec.Struct, frozen=True):
    """A piece of a line of state that crosses a row in a lane."""

    lane: int
    line: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row. ``number``: the snapshot, None for the state as it is now; ``passing``: edges that go
    through; ``joining``: edges of other lanes that end here; ``above`` and ``below``: whether its own
    lane comes from the row above, and goes on below."""

    number: int | None
    lane: int
    line: str
    passing: list[Edge] = []
    joining: list[Edge] = []
    above: str | None = None
    below: bool = False


def lay_out(snapshots: Sequence[Snapshot], base: int | None, line: str) -> list[Row]:
    """The rows: the state as it is now (a child of ``base``, on ``line``), then all snapshots."""
    known = {snapshot.number for snapshot in snapshots}
    lanes = _Lanes()
    rows = [lanes.place(None, base if base in known else None, line)]
    for snapshot in sorted(snapshots, key=lambda each: each.number, reverse=True):
        parent = snapshot.parent if snapshot.parent in known else None
        rows.append(lanes.place(snapshot.number, parent, snapshot.line))
    return rows


class _Lanes:
    """The lanes while rows are placed from the top: which snapshot each leads to, for which line."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str] | None] = []

    def place(self, number: int | None, parent: int | None, line: str) -> Row:
        mine = [lane for lane, each in enumerate(self._open) if each is not None and each[0] == number]
        lane = mine[0] if mine else self._free()
        above = self._open[lane]
        joining = [self._edge(other) for other in mine[1:]]
        for other in mine:
            self._open[other] = None
        passing = [self._edge(other) for other, each in enumerate(self._open) if each is not None]
        self._open[lane] = None if parent is None else (parent, line)
        return Row(
            number=number,
            lane=lane,
            line=line,
            passing=passing,
            joining=joining,
            above=above[1] if mine and above else None,
            below=parent is not None,
        )

    def _edge(self, lane: int) -> Edge:
        each = self._open[lane]
        return Edge(lane, each[1] if each else "")

    def _free(self) -> int:
        """The first lane that leads nowhere."""
        if None not in self._open:
            self._open.append(None)
        return self._open.index(None)

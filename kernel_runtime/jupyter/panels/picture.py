"""The tree of snapshots as HTML and SVG: a table whose first column draws the lines of state.

Colours are JupyterLab's variables, so that it reads in light and dark themes; where there are none
(an exported page) the values after the comma stand. Where style and SVG are stripped, a table stays.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import show_bytes
from kernel_runtime.jupyter.panels.differences import escape
from kernel_runtime.jupyter.panels.tree import Row, lay_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernel_runtime.domain.snapshot import Snapshot

#: Height of a row, also of the buttons that lie over the rows.
ROW = 28
#: Rows above the first snapshot: the heads, and the state as it is now.
ROWS_ABOVE = 2
MAX_GRAPH = 132
HEADS = ("", "snapshot", "after cell", "line", "made", "size")
COLOURS = 6


def draw(snapshots: Sequence[Snapshot], base: int | None, line: str, cell: int) -> str:
    """The whole table. ``base``: the snapshot that the session goes on from; ``cell``: its last."""
    rows = lay_out(snapshots, base, line)
    known = {snapshot.number: snapshot for snapshot in snapshots}
    graph = _Graph(rows)
    largest = max((snapshot.size or 0 for snapshot in snapshots), default=0)
    body = "".join(
        _now(graph.cell(row), line, cell, graph.colour(line))
        if row.number is None
        else _row(graph.cell(row, known[row.number]), known[row.number], row.number == base, largest, graph)
        for row in rows
    )
    heads = "".join(f"<th>{head}</th>" for head in HEADS)
    return f'<table class="kr-tree"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _now(graph: str, line: str, cell: int, colour: int) -> str:
    cells = (
        graph,
        '<b>now</b><i class="kr-chip kr-live">live</i>',
        _after(cell),
        _line(line, colour),
        "",
        "",
    )
    return f'<tr class="kr-now">{"".join(f"<td>{each}</td>" for each in cells)}</tr>'


def _row(graph: str, snapshot: Snapshot, is_base: bool, largest: int, drawn: _Graph) -> str:
    name = f"<b><bdi>{escape(snapshot.name)}</bdi></b>" if snapshot.name else ""
    marks = (("current", is_base), ("pinned", snapshot.pinned), ("automatic", snapshot.automatic))
    chips = "".join(f'<i class="kr-chip kr-{mark}">{mark}</i>' for mark, holds in marks if holds)
    if snapshot.gate:
        chips += f'<i class="kr-chip kr-gate" title="{escape(snapshot.gate)}">gate</i>'
    cells = (
        graph,
        f'<span class="kr-number">#{snapshot.number}</span>{name}{chips}',
        _after(snapshot.cell),
        _line(snapshot.line, drawn.colour(snapshot.line)),
        f'<span title="{escape(_date(snapshot.made))}">{clock(snapshot.made)}</span>',
        _size(snapshot.size, largest),
    )
    return f"<tr>{''.join(f'<td>{each}</td>' for each in cells)}</tr>"


def _after(cell: int) -> str:
    return f"[{cell}]" if cell else "at the start"


def _line(line: str, colour: int) -> str:
    return f'<bdi class="kr-line kr-c{colour}">{escape(line)}</bdi>'


def _size(size: int | None, largest: int) -> str:
    if size is None:
        return '<span class="kr-faint">not measured</span>'
    return bar(size, largest) + show_bytes(size)


def bar(amount: float, whole: float) -> str:
    """How much of the whole it is."""
    share = min(100.0, 100 * amount / whole) if whole else 0
    return f'<span class="kr-bar"><span style="width:{share:.0f}%"></span></span>'


def clock(made: float) -> str:
    """The time of day on this host."""
    return time.strftime("%H:%M:%S", time.localtime(made))


def _date(made: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(made))


class _Graph:
    """The drawing of the first column, row by row; each line of state has its colour."""

    def __init__(self, rows: Sequence[Row]) -> None:
        lanes = 1 + max(max([row.lane, *(edge.lane for edge in row.passing)]) for row in rows)
        self._step = min(18.0, (MAX_GRAPH - 20) / lanes)
        self._width = round(20 + self._step * (lanes - 1))
        self._lines: list[str] = []
        for row in reversed(rows):
            if row.line not in self._lines:
                self._lines.append(row.line)

    def colour(self, line: str) -> int:
        """Of a line of state: the first one's is 0."""
        return self._lines.index(line) % COLOURS if line in self._lines else 0

    def cell(self, row: Row, snapshot: Snapshot | None = None) -> str:
        """The SVG of one row."""
        middle, x = ROW // 2, self._x(row.lane)
        parts = [self._path(edge.line, f"M{self._x(edge.lane)} 0V{ROW}") for edge in row.passing]
        parts += [
            self._path(edge.line, f"M{(far := self._x(edge.lane))} 0C{far} {middle - 2} {x} 2 {x} {middle}")
            for edge in row.joining
        ]
        if row.above is not None:
            parts.append(self._path(row.above, f"M{x} 0V{middle}"))
        if row.below:
            parts.append(self._path(row.line, f"M{x} {middle}V{ROW}"))
        parts.append(self._node(x, middle, row.line, snapshot))
        return (
            f'<svg width="{self._width}" height="{ROW}" viewBox="0 0 {self._width} {ROW}" '
            f'aria-hidden="true">{"".join(parts)}</svg>'
        )

    def _x(self, lane: int) -> float:
        return round(10 + self._step * lane, 1)

    def _path(self, line: str, path: str) -> str:
        return f'<path class="kr-c{self.colour(line)}" d="{path}"/>'

    def _node(self, x: float, y: int, line: str, snapshot: Snapshot | None) -> str:
        """Now: a ring with a dot; kept by a person: full, with a ring if pinned; automatic: small, hollow."""
        tone = f"kr-c{self.colour(line)}"
        if snapshot is None:
            ring = f'<circle class="{tone} kr-hollow" cx="{x}" cy="{y}" r="7"/>'
            return f'{ring}<circle class="{tone} kr-full" cx="{x}" cy="{y}" r="3.5"/>'
        if snapshot.automatic and not snapshot.pinned:
            return f'<circle class="{tone} kr-hollow" cx="{x}" cy="{y}" r="3.5"/>'
        full = f'<circle class="{tone} kr-full" cx="{x}" cy="{y}" r="5"/>'
        ring = f'<circle class="{tone} kr-ring" cx="{x}" cy="{y}" r="8"/>' if snapshot.pinned else ""
        return ring + full

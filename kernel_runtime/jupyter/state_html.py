"""Snapshots and differences as plain tables, for notebooks: static, and safe wherever they are shown."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import show_amount
from kernel_runtime.domain.difference import describe, show_place, show_uncompared, summary
from kernel_runtime.jupyter.state_text import said

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kernel_runtime.domain.difference import Change, Difference
    from kernel_runtime.domain.snapshot import Snapshot

_HEADS = ("", "snapshot", "after cell", "line", "made", "size", "")
_SIGNS = {"added": "+", "removed": "−", "changed": "~"}


def listing(snapshots: Sequence[Snapshot], base: int | None, line: str) -> str:
    """One row for each snapshot, oldest first; an arrow marks the one that the state came from."""
    if not snapshots:
        return f"<p>no snapshots yet (line {html.escape(line)})</p>"
    rows = [_snapshot(snapshot, is_base=snapshot.number == base) for snapshot in snapshots]
    return _table(_HEADS, rows)


def _snapshot(snapshot: Snapshot, *, is_base: bool) -> list[str]:
    marks = ("automatic", snapshot.automatic), ("pinned", snapshot.pinned), (snapshot.gate, snapshot.gate)
    return [
        "→" if is_base else "",
        snapshot.title,
        str(snapshot.cell),
        snapshot.line,
        time.strftime("%H:%M:%S", time.localtime(snapshot.made)),
        "" if snapshot.size is None else show_amount("memory", snapshot.size),
        ", ".join(said(mark) for mark, holds in marks if holds),
    ]


def difference(found: Difference) -> str:
    """One row for each variable that differs, and one for each place."""
    head = html.escape(f"{found.a} → {found.b}: {summary(found)}")
    rows = [row for change in found.changes for row in _change(change)]
    rest = "".join(f"<p>{html.escape(said(line))}</p>" for line in show_uncompared(found))
    return f"<p>{head}</p>{_table(('', 'variable', 'what it is'), rows) if rows else ''}{rest}"


def _change(change: Change) -> list[list[str]]:
    rows = [[_SIGNS[change.kind], said(change.name), said(describe(change))]]
    rows += [["", said(f"{change.name}{place.label}"), said(show_place(place))] for place in change.places]
    return rows


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [_row("th", heads), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(text)}</{tag}>' for text in cells)}</tr>"

"""What differs between two snapshots, as rows for people."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from kernel_runtime.domain.difference import outline, show_uncompared
from kernel_runtime.jupyter.page_text import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from kernel_runtime.domain.difference import Change
    from kernel_runtime.domain.difference import Difference as Found
    from kernel_runtime.domain.snapshot import Snapshot

    #: What compares two snapshots.
    Diff = Callable[[Snapshot, Snapshot], Awaitable[Sequence["Difference"]]]


class Comparing(Protocol):
    """Who can compare two snapshots: the session."""

    async def diff(self, a: str | int, b: str | int | None = None) -> Found: ...


MAX_ROWS = 200
MAX_TEXT = 160
_SIGNS = {"added": "+", "removed": "−", "changed": "≠"}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One variable; ``before`` and ``after`` describe it (type, shape, size, first difference). One is
    ``uncompared``: it names all that were not."""

    name: str
    change: Literal["added", "removed", "changed", "uncompared"]
    before: str = ""
    after: str = ""


def by(session: Comparing) -> Diff:
    """Rows of what ``session`` finds."""

    async def diff(a: Snapshot, b: Snapshot) -> Sequence[Difference]:
        found = await session.diff(a.number, b.number)
        rest = [Difference(name="", change="uncompared", before=line) for line in show_uncompared(found)]
        return [*map(_described, found.changes), *rest]

    return diff


def _described(change: Change) -> Difference:
    first = change.places[0] if change.places else None
    before, after = outline(change.before), outline(change.after)
    if first is not None:
        where = f"{change.name}{first.label}"
        before += f"; {where} is {'not there' if first.before is None else first.before}"
        after += f"; {where} is {'not there' if first.after is None else first.after}"
    kind: Literal["added", "removed", "changed"] = "changed"
    if change.before is None or change.after is None:
        kind = "added" if change.before is None else "removed"
    return Difference(name=change.name, change=kind, before=before, after=after)


def as_html(rows: Sequence[Difference], first: str, second: str) -> str:
    """A table; every text is the guest's, and only text."""
    heads = "".join(f"<th>{escape(head)}</th>" for head in ("", "variable", first, second))
    changed, unknown = changes(rows), [row for row in rows if row.change == "uncompared"]
    more = len(changed) - MAX_ROWS
    rest = f"<p>and {more} more</p>" if more > 0 else ""
    rest += "".join(f"<p><bdi>{escape(row.before)}</bdi></p>" for row in unknown[:1])
    if not changed:
        return f"<p>No variable differs between {escape(first)} and {escape(second)}.</p>{rest}"
    body = "".join(_row(row) for row in changed[:MAX_ROWS])
    return f'<table class="kr-diff"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{rest}'


def changes(rows: Sequence[Difference]) -> list[Difference]:
    """Those that are known to differ."""
    return [row for row in rows if row.change != "uncompared"]


def _row(row: Difference) -> str:
    change = row.change if row.change in _SIGNS else "changed"
    cells = "".join(f"<td><bdi>{escape(text)}</bdi></td>" for text in (row.name, row.before, row.after))
    return f'<tr class="kr-{change}"><td title="{change}">{_SIGNS[change]}</td>{cells}</tr>'


def escape(text: str, longest: int = MAX_TEXT) -> str:
    """One line of text for the page, whatever it was; ``longest``: characters."""
    line = " ".join(one_line(str(text), 2 * longest).split())
    return html.escape(line if len(line) <= longest else line[: longest - 1] + "…")

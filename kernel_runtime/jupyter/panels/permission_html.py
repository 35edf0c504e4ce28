"""Rights, records and suggestions as HTML; every text may be a guest's, and is only text."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import show_bytes
from kernel_runtime.domain.rules import Effect
from kernel_runtime.jupyter.panels.differences import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kernel_runtime.domain.audit import Record
    from kernel_runtime.domain.suggestion import Wish
    from kernel_runtime.jupyter.panels.rights import Right

#: Records in the table at once.
MOST_ROWS = 100
COUNTED = {Effect.ALLOW: "granted", Effect.ASK: "to be asked", Effect.DENY: "denied"}
WORDS = {Effect.ALLOW: "granted", Effect.ASK: "asks", Effect.DENY: "denied"}


def chip(effect: str, word: str = "") -> str:
    """The effect as a word with a border; never by its colour alone."""
    known = effect if effect in tuple(Effect) else "none"
    return f'<i class="kr-chip kr-{known}">{escape(word or effect)}</i>' if effect else ""


def rights(found: Sequence[Right]) -> str:
    """One row for each scope."""
    heads = ("", "capability", "requested", "came to", "decided by", "why, in the app's own words")
    rows = (
        (
            chip(right.effect, WORDS[right.effect]),
            f"<code><bdi>{escape(right.scope)}</bdi></code>",
            str(right.times or ""),
            f'<span class="kr-faint">{came(right)}</span>',
            f"<bdi>{escape(brief(right.rule))}</bdi>",
            _quoted(right),
        )
        for right in found
    )
    return table(heads, rows, "kr-list kr-fixed")


def came(right: Right) -> str:
    """What its requests came to: bytes, time, and how many failed."""
    parts = (
        (right.bytes, show_bytes(right.bytes)),
        (right.seconds, _seconds(right.seconds)),
        (right.failed, f"{right.failed} failed"),
    )
    return ", ".join(said for amount, said in parts if amount)


def detail(right: Right | None) -> str:
    """All of one, below the table."""
    if right is None:
        return ""
    why = f"The app says: “<bdi>{escape(right.why)}</bdi>”. " if right.why else ""
    what = came(right)
    made = f" Its requests came to {what}." if what else ""
    return f'<p class="kr-faint">{why}Decided by: <bdi>{escape(right.rule)}</bdi>.{made}</p>'


def brief(rule: str) -> str:
    """A rule with the name of its file, without the directories."""
    said, comma, place = rule.rpartition(", ")
    return f"{said}{comma}{place.rpartition('/')[2]}" if place.startswith("/") else rule


def _quoted(right: Right) -> str:
    if right.why:
        return f"<bdi>“{escape(right.why)}”</bdi>"
    return "" if right.declared else '<span class="kr-faint">not in its manifest</span>'


def records(found: Sequence[Record]) -> str:
    """The newest rows."""
    heads = ("", "when", "event", "what", "decision", "rule", "")
    rows = (
        (
            f'<span class="kr-number">{record.number}</span>',
            f'<span class="kr-faint">{_when(record.at)}</span>',
            escape(record.event),
            f"<code><bdi>{escape(what(record))}</bdi></code>",
            chip(record.decision),
            f'<span title="{escape(record.rule)}: {escape(record.reason)}"><bdi>{escape(brief(record.rule))}</bdi></span>',
            _amounts(record),
        )
        for record in found[:MOST_ROWS]
    )
    return f'<div class="kr-scroll">{table(heads, rows, "kr-list")}</div>'


def what(record: Record) -> str:
    return f"{record.capability}:{record.resource}".strip(":")


def _when(at: float) -> str:
    today = time.strftime("%Y-%m-%d") == time.strftime("%Y-%m-%d", time.localtime(at))
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", time.localtime(at))


def _amounts(record: Record) -> str:
    size = show_bytes(record.bytes) if record.bytes else ""
    return f'<span class="kr-faint">{size} {_seconds(record.duration)}</span>' if record.duration else size


def _seconds(duration: float) -> str:
    return f"{1000 * duration:.0f} ms" if duration < 1 else f"{duration:.1f} s"


def wishes(title: str, found: Sequence[Wish]) -> str:
    """What is not suggested, and why."""
    if not found:
        return ""
    rows = (
        (
            f"<code><bdi>{escape(wish.scope)}</bdi></code>",
            f"{wish.times} ×",
            f"<bdi>{escape(brief(wish.reason))}</bdi>",
        )
        for wish in found[:MOST_ROWS]
    )
    return f'<p class="kr-faint">{escape(title)}</p>{table((), rows, "kr-list kr-refused")}'


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], kind: str) -> str:
    """Cells are HTML already; heads are text."""
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for cells in rows)
    above = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<table class="{kind}">{above}<tbody>{body}</tbody></table>'

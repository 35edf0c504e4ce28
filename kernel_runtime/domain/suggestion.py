"""A policy proposed from what was asked for and not allowed; a person reads it before it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.addresses import LINK_LOCAL, METADATA, why_closed
from kernel_runtime.domain.decide import BY_DEFAULT, BY_MANIFEST
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.rules import Effect
from kernel_runtime.domain.scopes import Kind, Scope, parse_scope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernel_runtime.domain.audit import Record

#: The person's own words, later than what they answer.
_ANSWERS = frozenset({"answered", "granted"})
#: What no proposal leads to; who needs it writes the line.
_NEVER = frozenset({LINK_LOCAL, METADATA})


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A scope that was asked for ``times`` times, and why it was not allowed."""

    scope: str
    times: int
    apps: tuple[str, ...]
    reason: str = ""


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """``allow``: nothing spoke against it. ``undeclared``: a manifest would have to ask first.
    ``refused``: a rule or the person denied it, a condition did not hold, or it leads to where no suggestion does."""

    allow: tuple[Wish, ...]
    undeclared: tuple[Wish, ...]
    refused: tuple[Wish, ...]

    def toml(self) -> str:
        """As a ``policy.toml``; what is not suggested stands in comments."""
        lines = ["# Proposed from the audit log. Read each line: it allows for ever."]
        lines += ["allow = [", *(f"  {_line(wish)}" for wish in self.allow), "]"]
        for title, wishes in (
            ("Not asked for in the manifest", self.undeclared),
            ("Denied by a rule, a condition or you", self.refused),
        ):
            lines += ["", f"# {title}:"] if wishes else []
            lines += [f"# {_line(wish)}" for wish in wishes]
        return "\n".join(lines) + "\n"


class _Wished:
    """What one app wished for, and how that stands."""

    def __init__(self) -> None:
        self.times = 0
        self.heap = ""
        self.reason = ""
        self.is_denied = False

    def ask(self, heap: str, reason: str) -> None:
        self.times += 1
        if not self.is_denied:
            self.heap, self.reason = heap, reason

    def deny(self) -> None:
        self.heap, self.reason, self.is_denied = "refused", "you denied it when you were asked", True


def suggest(records: Iterable[Record]) -> Suggestion:
    """What the log's decisions and answers add up to, in the log's order. What was granted in the end is not proposed,
    nor what the person denied."""
    wished: dict[tuple[Scope, str, str], _Wished] = {}
    for record in records:
        scope = _scope(record)
        if scope is None:
            continue
        key = (scope, record.app, record.holder)
        if record.decision == Effect.ALLOW:
            if key in wished and (wished[key].heap == "allow" or record.event in _ANSWERS):
                del wished[key]
        elif record.event == "answered":
            wished.setdefault(key, _Wished()).deny()
        elif record.event == "decision":
            wished.setdefault(key, _Wished()).ask(*_heap(scope, record))
    heaps: dict[str, dict[Scope, list[tuple[str, _Wished]]]] = {"allow": {}, "undeclared": {}, "refused": {}}
    for (scope, app, _), one in wished.items():
        heaps[one.heap].setdefault(scope, []).append((app, one))
    return Suggestion(
        **{name: tuple(_wish(*pair) for pair in sorted(heap.items())) for name, heap in heaps.items()}
    )


def _wish(scope: Scope, by: list[tuple[str, _Wished]]) -> Wish:
    apps = tuple(sorted({app for app, _ in by}))
    return Wish(scope=str(scope), times=sum(one.times for _, one in by), apps=apps, reason=by[-1][1].reason)


def _scope(record: Record) -> Scope | None:
    """What was wished for, as a rule would say it: without the usual port."""
    if record.event != "decision" and record.event not in _ANSWERS:
        return None
    text = f"{record.capability}:{record.resource}" if record.resource else record.capability
    try:
        scope = parse_scope(text)
    except Invalid:
        return None
    return usual(scope)


def usual(scope: Scope) -> Scope:
    """As a rule would say it: without the usual port."""
    is_usual = scope.kind is Kind.NET and scope.port in ("80", "443")
    return msgspec.structs.replace(scope, port="") if is_usual else scope


def _heap(scope: Scope, record: Record) -> tuple[str, str]:
    """Where a wish belongs, and what is said of it."""
    if scope.kind is Kind.NET and (kind := _closed(scope.target)) in _NEVER:
        return "refused", f"it is {kind}: nobody is proposed that"
    if record.rule == BY_MANIFEST:
        return "undeclared", record.rule
    is_open = record.rule == BY_DEFAULT or record.decision == Effect.ASK
    return "allow" if is_open else "refused", record.rule


def _closed(host: str) -> str:
    try:
        return why_closed(host)
    except ValueError:
        return ""


def _line(wish: Wish) -> str:
    """A line of the list; JSON's strings are TOML's, too."""
    quoted = msgspec.json.encode(wish.scope).decode("utf-8")
    times = f"{wish.times} time{'s' * (wish.times != 1)}"
    return f"{quoted},  # {times}, by {', '.join(_printable(app) for app in wish.apps)}; {_printable(wish.reason)}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:120]

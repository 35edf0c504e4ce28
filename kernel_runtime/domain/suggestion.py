"""A policy proposed from what was asked for and not allowed; a person reads it before it holds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.decide import BY_DEFAULT, BY_MANIFEST
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.rules import Effect
from kernel_runtime.domain.scopes import Kind, Scope, parse_scope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernel_runtime.domain.audit import Record


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A scope that was asked for ``times`` times, and why it was not allowed."""

    scope: str
    times: int
    apps: tuple[str, ...]
    reason: str = ""


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """``allow``: nothing spoke against it. ``undeclared``: a manifest would have to ask first.
    ``refused``: a rule denied it, or a condition did not hold; that is not for a suggestion to change."""

    allow: tuple[Wish, ...]
    undeclared: tuple[Wish, ...]
    refused: tuple[Wish, ...]

    def toml(self) -> str:
        """As a ``policy.toml``; what is not suggested stands in comments."""
        lines = ["# Proposed from the audit log. Read each line: it allows for ever."]
        lines += ["allow = [", *(f"  {_line(wish)}" for wish in self.allow), "]"]
        for title, wishes in (
            ("Not asked for in the manifest", self.undeclared),
            ("Denied by a rule or a condition", self.refused),
        ):
            lines += ["", f"# {title}:"] if wishes else []
            lines += [f"# {_line(wish)}" for wish in wishes]
        return "\n".join(lines) + "\n"


def suggest(records: Iterable[Record]) -> Suggestion:
    """What the log's decisions add up to."""
    found: dict[str, Counter[Scope]] = {"allow": Counter(), "undeclared": Counter(), "refused": Counter()}
    apps: dict[Scope, set[str]] = {}
    reasons: dict[Scope, str] = {}
    for record in records:
        scope = _scope(record)
        if scope is None:
            continue
        found[_heap(record)][scope] += 1
        apps.setdefault(scope, set()).add(record.app)
        reasons[scope] = record.rule
    heaps = {
        name: tuple(
            Wish(scope=str(scope), times=times, apps=tuple(sorted(apps[scope])), reason=reasons[scope])
            for scope, times in sorted(heap.items())
        )
        for name, heap in found.items()
    }
    return Suggestion(**heaps)


def _scope(record: Record) -> Scope | None:
    """What was wished for, as a rule would say it: without the usual port."""
    if record.event != "decision" or record.decision == Effect.ALLOW:
        return None
    text = f"{record.capability}:{record.resource}" if record.resource else record.capability
    try:
        scope = parse_scope(text)
    except Invalid:
        return None
    usual = scope.kind is Kind.NET and scope.port in ("80", "443")
    return msgspec.structs.replace(scope, port="") if usual else scope


def _heap(record: Record) -> str:
    if record.rule == BY_MANIFEST:
        return "undeclared"
    return "allow" if record.rule == BY_DEFAULT or record.decision == Effect.ASK else "refused"


def _line(wish: Wish) -> str:
    """A line of the list; JSON's strings are TOML's, too."""
    quoted = msgspec.json.encode(wish.scope).decode("utf-8")
    times = f"{wish.times} time{'s' * (wish.times != 1)}"
    return f"{quoted},  # {times}, by {', '.join(_printable(app) for app in wish.apps)}; {_printable(wish.reason)}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:120]

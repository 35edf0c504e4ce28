"""Policies: the rules that grant. Several files hold at once, and the stricter wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernel_runtime.domain.check_policy import Section, check_table
from kernel_runtime.domain.condition_tables import read_conditions
from kernel_runtime.domain.conditions import NONE
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.matching import Index
from kernel_runtime.domain.places import Place
from kernel_runtime.domain.reading import parse_toml, read_table
from kernel_runtime.domain.rules import Effect, Grant, Layer, Rule, Span
from kernel_runtime.domain.scopes import anchored, parse_scope
from kernel_runtime.domain.tables import PolicyTable, RuleTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernel_runtime.domain.manifest import Anchors


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One policy file, read. ``trusted``: whether its own ``allow`` counts (a project's may not). ``check``: what source is
    to be read for, if it says so."""

    name: str
    layer: Layer
    rules: tuple[Rule, ...] = ()
    default: Effect = Effect.ASK
    trusted_projects: tuple[str, ...] = ()
    trusted: bool = True
    check: Section | None = None


class Policy:
    """Rules of all sources, indexed. ``confirm``: what rules allow is asked all the same (level strict).

    ``unheeded``: rules of projects nobody trusts that would allow; they count for nothing.
    """

    def __init__(self, sources: Iterable[Source] = (), *, confirm: bool = False) -> None:
        self.sources = tuple(sources)
        rules = [(rule, source) for source in self.sources for rule in source.rules]
        heeded = [r for r, source in rules if source.trusted or r.effect is not Effect.ALLOW]
        self.unheeded = tuple(r for r, s in rules if not s.trusted and r.effect is Effect.ALLOW)
        self.denials = Index(r for r in heeded if r.effect is Effect.DENY)
        self.others = Index(r for r in heeded if r.effect is not Effect.DENY)
        denies = any(source.default is Effect.DENY for source in self.sources)
        self.default = Effect.DENY if denies else Effect.ASK
        self.confirm = confirm

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All that are heeded."""
        return (*self.denials, *self.others)


def parse_policy_file(
    text: str, name: str, layer: Layer, anchors: Anchors, *, trusted: bool = True
) -> Source:
    """The text of a ``policy.toml``; ``Invalid`` names file, line and key."""
    place = Place(name, text)
    table = read_table(parse_toml(text, name), PolicyTable, place)
    check = check_table(table.check, text, name, trusted=trusted) if table.check else None
    if table.trusted_projects and layer is Layer.PROJECT:
        raise place.wrong(("trusted_projects",), "a project cannot trust itself; write it in your own policy")
    rules = [
        _rule(item, Effect(key), place, (key, number), layer, anchors)
        for key in ("deny", "ask", "allow")
        for number, item in enumerate(getattr(table, key))
    ]
    _refuse_contradictions(rules, place)
    return Source(
        name=name,
        layer=layer,
        rules=tuple(rule for rule, _ in rules),
        default=Effect(table.default),
        trusted_projects=tuple(anchored(p, anchors.base, anchors.home) for p in table.trusted_projects),
        trusted=trusted,
        check=check,
    )


def _rule(
    item: str | RuleTable,
    effect: Effect,
    place: Place,
    path: tuple[str, int],
    layer: Layer,
    anchors: Anchors,
) -> tuple[Rule, tuple[str, int]]:
    table = RuleTable(scope=item) if isinstance(item, str) else item
    try:
        scope = parse_scope(anchored(table.scope, anchors.base, anchors.home), "scope")
    except Invalid as error:
        raise place.wrong(path, str(error), table.scope) from None
    conditions = read_conditions(table, place, path)
    if conditions.counts and effect is not Effect.ALLOW:
        raise place.wrong(path, f"a rate or quota is for rules that allow, not for {effect}", table.scope)
    line = place.line(path, table.scope)
    made = Rule(
        effect=effect,
        scope=scope,
        conditions=conditions,
        layer=layer,
        place=f"{place.name}:{line}" if line else place.name,
        reason=table.reason,
    )
    return made, path


def _refuse_contradictions(rules: list[tuple[Rule, tuple[str, int]]], place: Place) -> None:
    """Within one file: a rule that can never hold, or says two things, was not meant so."""
    always = Index(rule for rule, _ in rules if rule.effect is Effect.DENY and rule.conditions == NONE)
    said = {(rule.scope, rule.conditions): rule for rule, _ in rules}
    for rule, path in rules:
        if rule.effect is Effect.DENY:
            continue
        same = said[rule.scope, rule.conditions]
        others = always.covering(rule.scope) or ([same] if same.effect is not rule.effect else [])
        if others:
            message = f"{rule.effect} {rule.scope} contradicts {others[0].effect} {others[0].scope} ({others[0].place})"
            raise place.wrong(path, message, str(rule.scope))


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a command line grants and denies."""

    grants: Index[Grant]
    source: Source


def given(allow: Iterable[str] = (), deny: Iterable[str] = (), anchors: Anchors | None = None) -> Given:
    """``--allow`` and ``--deny`` of a command line: grants of the person who typed them, and rules."""
    base, home = (anchors.base, anchors.home) if anchors else ("/", "/")
    grants = [
        Grant(scope=parse_scope(anchored(text, base, home), "--allow"), span=Span.SESSION, place="--allow")
        for text in allow
    ]
    rules = [
        Rule(effect=Effect.DENY, scope=parse_scope(anchored(text, base, home), "--deny"), place="--deny")
        for text in deny
    ]
    return Given(
        grants=Index(grants), source=Source(name="command line", layer=Layer.GIVEN, rules=tuple(rules))
    )

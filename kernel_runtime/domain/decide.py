"""The decision: may this app do this, now? A pure function; everything it depends on is given.

In this order, and in no other: a rule that denies; what the manifest does not ask for; conditions
of each policy file that speaks of it; what a person granted; the rules that ask or allow; the default.
Nothing that is removed from the grants makes more allowed, and no order of them matters.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.conditions import Conditions
from kernel_runtime.domain.counters import counted
from kernel_runtime.domain.holding import Failure, failing, may_hold
from kernel_runtime.domain.rules import Ask, Effect, Grant, Rule
from kernel_runtime.domain.scopes import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernel_runtime.domain.clock import Clock
    from kernel_runtime.domain.counters import Count
    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.domain.matching import Index
    from kernel_runtime.domain.policy import Policy


#: What decided when no rule did, as it stands in decisions and audit records.
BY_MANIFEST = "the manifest"
BY_DEFAULT = "the policy's default"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One thing asked for. ``scope`` is concrete (``parse_request``); ``arguments``: what patterns are
    tested on (``path``, ``table``); ``size``: bytes it is known to take."""

    scope: Scope
    arguments: dict[str, str] = {}
    size: int = 0
    principal: str = ""
    tenant: str = ""
    session: str = ""


class Charge(msgspec.Struct, frozen=True):
    """A count to be raised once the request is performed."""

    key: str
    conditions: Conditions


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """``rule`` decided, for ``reason``; ``ask_for``: the scope that would have to be granted.
    ``charges``: what an allowed request counts towards. ``wait``: seconds until a rate allows again.
    """

    effect: Effect
    rule: str
    reason: str
    ask_for: str = ""
    charges: tuple[Charge, ...] = ()
    wait: float = 0.0

    @property
    def allowed(self) -> bool:
        return self.effect is Effect.ALLOW

    def headless(self) -> Decision:
        """The same where nobody can be asked: asking becomes denying, with the flag that would grant it."""
        if self.effect is not Effect.ASK:
            return self
        reason = f"{self.reason}; nobody can be asked here: --allow {shlex.quote(self.ask_for)} grants it"
        return msgspec.structs.replace(self, effect=Effect.DENY, reason=reason)


def decide(
    manifest: Manifest,
    grants: Index[Grant],
    policy: Policy,
    request: Request,
    clock: Clock,
    counters: Mapping[str, Count],
) -> Decision:
    """Allow, deny or ask. ``grants`` and ``policy`` are indexed once and used for many decisions."""
    return _Case(manifest, grants, policy, request, clock, counters).decision()


def charged(
    decision: Decision, counters: Mapping[str, Count], clock: Clock, size: int = 0, calls: int = 1
) -> dict[str, Count]:
    """The counts that change when an allowed request is performed and took ``size`` bytes."""
    return {
        charge.key: counted(counters.get(charge.key), charge.conditions, clock, size, calls)
        for charge in decision.charges
    }


def standing(
    manifest: Manifest,
    grants: Index[Grant],
    policy: Policy,
    request: Request,
    clock: Clock,
    counters: Mapping[str, Count],
) -> list[Grant]:
    """The grants that hold for whoever makes ``request``, whatever it is for: no other session's, and none that is used up."""
    case = _Case(manifest, grants, policy, request, clock, counters)
    return [grant for grant in grants if case.holds(grant)]


class _Case:
    """One request before the rules; lives for one decision."""

    __slots__ = ("charges", "clock", "counters", "grants", "manifest", "policy", "request")

    def __init__(
        self,
        manifest: Manifest,
        grants: Index[Grant],
        policy: Policy,
        request: Request,
        clock: Clock,
        counters: Mapping[str, Count],
    ) -> None:
        self.manifest = manifest
        self.grants = grants
        self.policy = policy
        self.request = request
        self.clock = clock
        self.counters = counters
        self.charges: list[Charge] = []

    def decision(self) -> Decision:
        if not self.request.scope.is_concrete:
            return self._deny("the form of a request", "a request asks for one thing, without wildcards")
        return self._forbidden() or self._unasked() or self._by_rules()

    def _forbidden(self) -> Decision | None:
        for rule in self.policy.denials.covering(self.request.scope):
            if self._may_hold(rule):
                return self._deny(str(rule), rule.reason or "a rule denies it")
        return None

    def _unasked(self) -> Decision | None:
        """What the manifest does not ask for, or only under conditions that do not hold."""
        if self.manifest.asks is None:
            return None
        found = self.manifest.asks.covering(self.request.scope)
        if not found:
            reason = f"{self.manifest.name} does not ask for it in its manifest"
            return self._deny(BY_MANIFEST, reason)
        failure = self._first_holding(found)
        if failure is not None:
            return self._deny(str(found[0]), f"the manifest asks for it, but {failure.reason}", failure.wait)
        return self._calls_used_up()

    def _calls_used_up(self) -> Decision | None:
        if self.manifest.calls is None:
            return None
        failure = self._test(self.manifest.calls, "api_calls")
        return self._deny("limits.api_calls of the manifest", failure.reason) if failure else None

    def _by_rules(self) -> Decision:
        asking, allowing = self._speaking()
        for rules in allowing.values():
            failure = self._first_holding(rules)
            if failure is not None:
                return self._deny(str(rules[0]), f"a rule allows it, but {failure.reason}", failure.wait)
        grant = self._granted()
        if grant is not None:
            return self._allow(str(grant), "it was granted")
        if asking:
            return self._ask(str(asking[0]), asking[0].reason or "a rule wants it asked")
        if allowing:
            rule = next(iter(allowing.values()))[0]
            if not self.policy.confirm:
                return self._allow(str(rule), rule.reason or "a rule allows it")
            return self._ask(str(rule), "a rule allows it, and at this level it is asked all the same")
        if self.policy.default is Effect.DENY:
            return self._deny(BY_DEFAULT, "no rule and no grant allows it")
        return self._ask(BY_DEFAULT, "no rule speaks of it")

    def _speaking(self) -> tuple[list[Rule], dict[str, list[Rule]]]:
        """The rules that ask, and those that allow by layer: each layer that speaks has to agree."""
        asking: list[Rule] = []
        allowing: dict[str, list[Rule]] = {}
        for rule in self.policy.others.covering(self.request.scope):
            if rule.effect is Effect.ALLOW:
                allowing.setdefault(rule.layer, []).append(rule)
            elif self._may_hold(rule):
                asking.append(rule)
        return asking, allowing

    def _granted(self) -> Grant | None:
        return next((grant for grant in self.grants.covering(self.request.scope) if self.holds(grant)), None)

    def holds(self, grant: Grant) -> bool:
        request = self.request
        mine = (
            grant.app in ("", self.manifest.holder)
            and grant.version in ("", self.manifest.stamp)
            and grant.principal in ("", request.principal)
            and grant.session in ("", request.session)
        )
        identity = grant.identity if grant.conditions.counts else ""
        return mine and self._test(grant.conditions, identity) is None

    def _first_holding(self, found: list[Rule] | list[Ask]) -> Failure | None:
        """``None`` when the conditions of one of them hold, otherwise why the first does not."""
        first = None
        for one in found:
            failure = self._test(one.conditions, one.identity if one.conditions.counts else "")
            if failure is None:
                return None
            first = first or failure
        return first

    def _test(self, conditions: Conditions, identity: str) -> Failure | None:
        """Why conditions do not hold. Those that hold and count are noted to be charged."""
        key = f"{self.manifest.holder} {identity}" if conditions.counts else ""
        request = self.request
        failure = failing(
            conditions, request.arguments, request.tenant, request.size, self.clock, self.counters.get(key)
        )
        if failure is None and key:
            self.charges.append(Charge(key, conditions))
        return failure

    def _may_hold(self, rule: Rule) -> bool:
        return may_hold(rule.conditions, self.request.arguments, self.request.tenant, self.clock)

    def _allow(self, rule: str, reason: str) -> Decision:
        return Decision(effect=Effect.ALLOW, rule=rule, reason=reason, charges=tuple(self.charges))

    def _ask(self, rule: str, reason: str) -> Decision:
        return Decision(effect=Effect.ASK, rule=rule, reason=reason, ask_for=str(self.request.scope))

    def _deny(self, rule: str, reason: str, wait: float = 0.0) -> Decision:
        scope = str(self.request.scope)
        return Decision(effect=Effect.DENY, rule=rule, reason=reason, ask_for=scope, wait=wait)

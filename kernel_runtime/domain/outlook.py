"""What would become of what a manifest asks: scopes with wildcards, before anything is requested."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.conditions import NONE
from kernel_runtime.domain.decide import BY_DEFAULT
from kernel_runtime.domain.matching import covers, overlaps
from kernel_runtime.domain.rules import Effect

if TYPE_CHECKING:
    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.domain.matching import Index
    from kernel_runtime.domain.policy import Policy
    from kernel_runtime.domain.rules import Ask, Grant


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """``effect`` for the whole of a scope; ``but``: rules that decide otherwise for a part of it, or now and then."""

    scope: str
    effect: Effect
    rule: str
    reason: str = ""
    but: tuple[str, ...] = ()


def outlook(manifest: Manifest, grants: Index[Grant], policy: Policy) -> list[Outlook]:
    """One ``Outlook`` for each scope the manifest asks for; none when it declares nothing."""
    return [prospect(ask, grants, policy) for ask in manifest.asks or ()]


def prospect(ask: Ask, grants: Index[Grant], policy: Policy) -> Outlook:
    """What would become of one scope."""
    scope = ask.scope
    partly = [rule for rule in policy.denials if overlaps(rule.scope, scope)]
    for rule in partly:
        if covers(rule.scope, scope) and rule.conditions == NONE:
            return _made(ask, Effect.DENY, str(rule), ())
    others = [rule for rule in policy.others if overlaps(rule.scope, scope)]
    asking = [rule for rule in others if rule.effect is Effect.ASK]
    whole = [rule for rule in others if rule.effect is Effect.ALLOW and covers(rule.scope, scope)]
    grant = next((g for g in grants if covers(g.scope, scope)), None)
    bound = [rule for rule in others if rule.effect is Effect.ALLOW and rule.conditions != NONE]
    if grant is not None:
        return _made(ask, Effect.ALLOW, str(grant), (*partly, *bound))
    always = [rule for rule in asking if covers(rule.scope, scope)]
    if always:
        return _made(ask, Effect.ASK, str(always[0]), tuple(partly))
    if whole:
        effect = Effect.ASK if policy.confirm else Effect.ALLOW
        return _made(
            ask, effect, str(whole[0]), (*partly, *asking, *(r for r in bound if r not in whole[:1]))
        )
    return _made(ask, policy.default, BY_DEFAULT, tuple(r for r in (*partly, *others)))


def _made(ask: Ask, effect: Effect, rule: str, but: tuple[object, ...]) -> Outlook:
    return Outlook(
        scope=str(ask.scope), effect=effect, rule=rule, reason=ask.reason, but=tuple(map(str, but))
    )

"""What would become of what a manifest asks, before it is requested."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from kernel_runtime.domain.decide import decide
from kernel_runtime.domain.manifest import Anchors, parse_manifest
from kernel_runtime.domain.matching import Index, covers
from kernel_runtime.domain.outlook import outlook
from kernel_runtime.domain.policy import Policy, parse_policy_file
from kernel_runtime.domain.policy import given as flags
from kernel_runtime.domain.rules import Effect, Layer
from tests.domain.cases import built, cases

ANCHORS = Anchors("/srv", "/home/ann")
APP = """
id = "a"
permissions = [
  { type = "net", resource = "*.example.org", actions = ["GET"] },
  { type = "cache" },
  { type = "process" },
]
"""


def outlooks(policy: str, *allow: str) -> dict[str, tuple[Effect, int]]:
    source = parse_policy_file(policy, "policy.toml", Layer.USER, ANCHORS)
    found = outlook(parse_manifest(APP, "app.toml", ANCHORS), flags(allow).grants, Policy([source]))
    return {one.scope: (one.effect, len(one.but)) for one in found}


def test_granted_asked_and_denied() -> None:
    assert outlooks('allow = ["net:*"]\ndeny = ["process"]') == {
        "net:*.example.org/GET": (Effect.ALLOW, 0),
        "cache": (Effect.ASK, 0),
        "process": (Effect.DENY, 0),
    }
    assert outlooks('default = "deny"', "cache")["cache"] == (Effect.ALLOW, 0)
    assert outlooks('default = "deny"', "cache")["process"] == (Effect.DENY, 0)


def test_what_is_decided_otherwise_for_a_part_is_named() -> None:
    assert outlooks('allow = ["net:*"]\ndeny = ["net:x.example.org"]')["net:*.example.org/GET"] == (
        Effect.ALLOW,
        1,
    )
    assert outlooks('allow = ["net:x.example.org"]')["net:*.example.org/GET"] == (Effect.ASK, 1)
    late = 'allow = ["net:*"]\ndeny = [{ scope = "cache", when = "22:00-06:00" }]'
    assert outlooks(late, "cache")["cache"] == (Effect.ALLOW, 1)


@given(cases)
def test_what_is_wholly_denied_is_denied_when_it_is_requested(case: dict[str, Any]) -> None:
    arguments = built(case)
    if arguments.manifest.asks is None:
        return
    asked = arguments.manifest.asks.covering(arguments.request.scope)
    found = outlook(arguments.manifest, arguments.grants, arguments.policy)
    denied = [one for one in found if one.effect is Effect.DENY and one.rule != "the policy's default"]
    if any(one.scope == str(ask.scope) for one in denied for ask in asked):
        assert decide(*arguments.all()).effect is Effect.DENY


@given(cases)
def test_what_is_allowed_without_a_but_is_allowed_when_nothing_else_stops_it(case: dict[str, Any]) -> None:
    """Conditions of the manifest and of grants apart: those are seen when the request comes."""
    plain = {
        **case,
        "grants": [],
        "asks": case["asks"] and [{**ask, "conditions": {}} for ask in case["asks"]],
    }
    arguments = built(plain)
    for one, ask in zip(
        outlook(arguments.manifest, Index(()), arguments.policy), arguments.manifest.asks or (), strict=True
    ):
        if one.effect is Effect.ALLOW and not one.but and covers(ask.scope, arguments.request.scope):
            unconditional = not any(
                rule.conditions.text
                for rule in arguments.policy.others
                if covers(rule.scope, arguments.request.scope)
            )
            if unconditional:
                assert decide(*arguments.all()).allowed

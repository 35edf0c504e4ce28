"""Decisions: equal to a slow oracle, monotone in the grants, blind to order, and closed where nothing speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.clock import Clock
from kernel_runtime.domain.conditions import Conditions, Quota, Rate, Window
from kernel_runtime.domain.decide import Decision, Request, charged, decide
from kernel_runtime.domain.matching import Index
from kernel_runtime.domain.policy import Policy, Source
from kernel_runtime.domain.rules import Ask, Effect, Grant, Layer, Rule
from kernel_runtime.domain.scopes import parse_request, parse_scope
from tests.domain import oracle
from tests.domain.cases import app, built, cases, with_use

if TYPE_CHECKING:
    import random

    from kernel_runtime.domain.counters import Count

CLOCK = Clock(now=1_000_000.0, monotonic=100.0)
NO_POLICY = Policy()
EVERYTHING = ("net:*:*", "files:read:/**", "secret:*", "cache")


def grant(text: str, **fields: Any) -> Grant:
    return Grant(scope=parse_scope(text), **fields)


def rule(effect: str, text: str, layer: Layer = Layer.USER, **fields: Any) -> Rule:
    return Rule(effect=Effect(effect), scope=parse_scope(text), layer=layer, **fields)


def policy(*rules: Rule, default: Effect = Effect.ASK, confirm: bool = False) -> Policy:
    return Policy([Source(name="p", layer=Layer.USER, rules=rules, default=default)], confirm=confirm)


def decided(
    text: str,
    *,
    grants: tuple[Grant, ...] = (),
    rules: Policy = NO_POLICY,
    asks: tuple[str, ...] | None = None,
    clock: Clock = CLOCK,
    counters: dict[str, Count] | None = None,
    **fields: Any,
) -> Decision:
    manifest = app(
        None if asks is None else [Ask(scope=parse_scope(one), place="permissions[0]") for one in asks]
    )
    request = Request(scope=parse_request(text), **fields)
    return decide(manifest, Index(grants), rules, request, clock, counters or {})


# -- laws -----------------------------------------------------------------------------------------


@given(cases)
def test_it_decides_as_the_oracle_does(case: dict[str, Any]) -> None:
    assert decide(*built(case).all()).effect == oracle.decide(with_use(case))


@given(cases, st.data())
def test_removing_a_grant_never_allows_more(case: dict[str, Any], data: st.DataObject) -> None:
    kept = [one for one in case["grants"] if data.draw(st.booleans())]
    before, after = decide(*built(case).all()), decide(*built({**case, "grants": kept}).all())
    assert before.allowed or not after.allowed


@given(cases, st.randoms(use_true_random=False))
def test_no_order_matters(case: dict[str, Any], chance: random.Random) -> None:
    """Not for the effect only: the same rule decides, and the same is charged."""
    other = {**case, "rules": list(case["rules"]), "grants": list(case["grants"])}
    other["asks"] = None if case["asks"] is None else list(case["asks"])
    for name in ("rules", "grants", "asks"):
        chance.shuffle(other[name] or [])
    assert decide(*built(case).all()) == decide(*built(other).all())


@given(cases)
def test_adding_a_denial_never_allows_more(case: dict[str, Any]) -> None:
    denial = {"effect": "deny", "scope": case["request"], "conditions": {}, "layer": "project"}
    assert decide(*built({**case, "rules": [*case["rules"], denial]}).all()).effect is Effect.DENY


@given(cases)
def test_nothing_is_allowed_by_nothing(case: dict[str, Any]) -> None:
    bare = {**case, "rules": [], "grants": []}
    assert not decide(*built(bare).all()).allowed
    assert decide(*built({**bare, "asks": []}).all()).effect is Effect.DENY
    assert decide(*built(bare).all()).headless().effect is Effect.DENY


@given(cases)
def test_a_decision_changes_nothing_and_comes_out_the_same_again(case: dict[str, Any]) -> None:
    arguments = built(case)
    before = dict(arguments.counters)
    assert decide(*arguments.all()) == decide(*arguments.all())
    assert arguments.counters == before


# -- the order of things --------------------------------------------------------------------------


def test_an_empty_manifest_denies_what_everything_grants() -> None:
    grants = tuple(grant(text) for text in EVERYTHING)
    assert decided("net:a.example.org/GET", grants=grants, asks=()).effect is Effect.DENY
    assert decided("net:a.example.org/GET", grants=grants, asks=("net:a.example.org",)).allowed


def test_a_denial_says_which_rule_and_what_to_ask_for() -> None:
    denial = rule("deny", "net:*.example.org", place="policy.toml:3", reason="not this one")
    decision = decided("net:a.example.org/GET", grants=(grant("net:a.example.org"),), rules=policy(denial))
    assert decision.effect is Effect.DENY
    assert "policy.toml:3" in decision.rule
    assert decision.reason == "not this one"
    assert decision.ask_for == "net:a.example.org:443/GET"


def test_where_nobody_can_be_asked_the_flag_is_told() -> None:
    decision = decided("files:read:/srv/it's here").headless()
    assert decision.effect is Effect.DENY
    assert """--allow 'files:read:/srv/it'"'"'s here'""" in decision.reason


def test_a_rule_that_asks_is_answered_by_a_grant_and_by_nothing_else() -> None:
    rules = policy(rule("ask", "net:a.example.org"), rule("allow", "net:*"))
    assert decided("net:a.example.org/GET", rules=rules).effect is Effect.ASK
    assert decided("net:b.example.org/GET", rules=rules).allowed
    assert decided("net:a.example.org/GET", rules=rules, grants=(grant("net:a.example.org"),)).allowed


def test_each_layer_that_speaks_has_to_agree() -> None:
    day = Conditions(tenants=frozenset({"red"}))
    rules = policy(rule("allow", "cache", Layer.SYSTEM, conditions=day), rule("allow", "cache", Layer.USER))
    assert decided("cache", rules=rules, tenant="red").allowed
    assert decided("cache", rules=rules, tenant="blue").effect is Effect.DENY
    assert decided("cache", rules=rules, tenant="blue", grants=(grant("cache"),)).effect is Effect.DENY


def test_at_level_strict_a_rule_that_allows_is_asked_all_the_same() -> None:
    rules = policy(rule("allow", "cache"), confirm=True)
    assert decided("cache", rules=rules).effect is Effect.ASK
    assert decided("cache", rules=rules, grants=(grant("cache"),)).allowed


def test_grants_are_for_one_app_version_person_and_session() -> None:
    for field, right in (("app", "mine"), ("version", "s"), ("principal", "ann"), ("session", "s1")):
        own = {"principal": "ann", "session": "s1"}
        assert decided("cache", grants=(grant("cache", **{field: right}),), **own).allowed
        assert not decided("cache", grants=(grant("cache", **{field: "other"}),), **own).allowed


def test_a_request_with_a_wildcard_is_denied() -> None:
    request = Request(scope=parse_scope("net:*/GET"))
    decision = decide(app(None), Index([grant("net:*")]), NO_POLICY, request, CLOCK, {})
    assert decision.effect is Effect.DENY


@pytest.mark.parametrize(
    "host", ["localhost", "printer", "db.internal", "127.0.0.1", "169.254.169.254", "[::1]"]
)
def test_wildcards_reach_no_address_and_nothing_local(host: str) -> None:
    assert not decided(f"net:{host}/GET", grants=(grant("net:*:*"),)).allowed
    assert decided(f"net:{host}/GET", grants=(grant(f"net:{host}"),)).allowed


# -- conditions -----------------------------------------------------------------------------------


def test_what_has_expired_stays_expired_when_the_clock_goes_back() -> None:
    short = grant("cache", conditions=Conditions(until=1_000_100.0))
    assert decided("cache", grants=(short,)).allowed
    assert not decided("cache", grants=(short,), clock=Clock(now=1_000_100.0)).allowed
    back = Clock(now=1_000_000.0, latest=1_000_200.0)
    assert not decided("cache", grants=(short,), clock=back).allowed


def test_a_time_window_proves_nothing_when_the_clock_went_back() -> None:
    always = Window(frozenset(range(7)), 0, 1440, utc=True)
    open_now = grant("cache", conditions=Conditions(window=always))
    assert decided("cache", grants=(open_now,)).allowed
    back = Clock(now=1_000_000.0, latest=1_000_061.0)
    assert not decided("cache", grants=(open_now,), clock=back).allowed
    closed = policy(
        rule("deny", "cache", conditions=Conditions(window=Window(frozenset({0}), 0, 1, utc=True)))
    )
    assert decided("cache", grants=(grant("cache"),), rules=closed).allowed
    assert not decided("cache", grants=(grant("cache"),), rules=closed, clock=back).allowed


def test_a_rate_gives_its_count_and_then_says_how_long_to_wait() -> None:
    rules = policy(rule("allow", "cache", conditions=Conditions(rate=Rate(3, 60.0))))
    counters: dict[str, Count] = {}
    for _ in range(3):
        decision = decided("cache", rules=rules, counters=counters)
        assert decision.allowed
        counters |= charged(decision, counters, CLOCK)
    decision = decided("cache", rules=rules, counters=counters)
    assert decision.effect is Effect.DENY
    assert decision.wait == pytest.approx(20.0)
    later = Clock(now=0.0, monotonic=CLOCK.monotonic + decision.wait)
    assert decided("cache", rules=rules, counters=counters, clock=later).allowed


@given(st.lists(st.floats(0, 30), max_size=40), st.integers(1, 5))
def test_no_more_than_rate_and_burst_are_ever_allowed(pauses: list[float], count: int) -> None:
    rules = policy(rule("allow", "cache", conditions=Conditions(rate=Rate(count, 10.0))))
    counters: dict[str, Count] = {}
    monotonic, allowed = 0.0, 0
    for pause in pauses:
        monotonic += pause
        clock = Clock(now=5.0, monotonic=monotonic)
        decision = decided("cache", rules=rules, counters=counters, clock=clock)
        counters |= charged(decision, counters, clock)
        allowed += decision.allowed
        assert allowed <= count + count * monotonic / 10.0 + 1e-6


def test_a_quota_counts_calls_and_bytes_and_begins_anew_with_its_period() -> None:
    quota = Conditions(quota=Quota(calls=2, bytes=1000, per="day"))
    rules = policy(rule("allow", "cache", conditions=quota))
    counters = charged(decided("cache", rules=rules), {}, CLOCK, size=600)
    assert decided("cache", rules=rules, counters=counters).allowed
    assert not decided("cache", rules=rules, counters=counters, size=401).allowed
    counters |= charged(decided("cache", rules=rules, counters=counters), counters, CLOCK, size=400)
    spent = decided("cache", rules=rules, counters=counters)
    assert spent.effect is Effect.DENY
    assert "quota of 2 calls" in spent.reason
    tomorrow = Clock(now=CLOCK.now + 86400)
    assert decided("cache", rules=rules, counters=counters, clock=tomorrow).allowed
    back = Clock(now=CLOCK.now - 86400, latest=CLOCK.now)
    assert not decided("cache", rules=rules, counters=counters, clock=back).allowed


def test_an_argument_has_to_be_there_and_to_have_one_reading() -> None:
    only = grant("net:a.example.org", conditions=Conditions(arguments=(("path", "/v1/*"),)))

    def allowed(**arguments: str) -> bool:
        return decided("net:a.example.org/GET", grants=(only,), arguments=arguments).allowed

    assert allowed(path="/v1/items")
    assert not allowed(path="/v2/items")
    assert not allowed()
    for path in ("/v1/../admin", "/v1/%2e%2e/admin", "/v1/..%2Fadmin", "/v1/a\nb", "/v1/..", "/v1/%00"):
        assert not allowed(path=path), path


def test_a_denial_with_an_argument_holds_where_that_is_in_doubt() -> None:
    denial = policy(
        rule("deny", "net:a.example.org", conditions=Conditions(arguments=(("path", "/admin*"),)))
    )
    grants = (grant("net:a.example.org"),)
    for arguments, allowed in (
        ({"path": "/v1"}, True),
        ({"path": "/admin/x"}, False),
        ({}, False),
        ({"path": "/v1/../admin"}, False),
    ):
        decision = decided("net:a.example.org/GET", grants=grants, rules=denial, arguments=arguments)
        assert decision.allowed is allowed, arguments


def test_nobody_is_among_no_tenants() -> None:
    for_none = grant("cache", conditions=Conditions(tenants=frozenset()))
    for tenant in ("", "red"):
        assert not decided("cache", grants=(for_none,), tenant=tenant).allowed

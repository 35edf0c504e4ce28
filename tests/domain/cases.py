"""Cases for decisions, as texts and numbers, and the same as what the product decides on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from kernel_runtime.domain.clock import Clock
from kernel_runtime.domain.conditions import Conditions, Quota, Rate, Window
from kernel_runtime.domain.counters import Count
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.manifest import Manifest
from kernel_runtime.domain.matching import Index
from kernel_runtime.domain.policy import Policy, Source
from kernel_runtime.domain.rules import Ask, Effect, Grant, Layer, Rule
from kernel_runtime.domain.scopes import parse_request, parse_scope
from kernel_runtime.domain.tables import ManifestTable

HOSTS = (
    "a.example.org",
    "b.example.org",
    "example.org",
    "x.a.example.org",
    "localhost",
    "db.internal",
    "10.0.0.1",
)
PATTERNS = (*HOSTS, "*", "*.example.org", "*.a.example.org", "*.internal")
PORTS = ("", ":443", ":80", ":8443", ":*")
METHODS = ("", "/GET", "/POST")
PATHS = ("/data", "/data/a", "/data/a/b.csv", "/data/b.csv", "/database", "/")
PATH_PATTERNS = (*PATHS, "/data/**", "/**", "/data/*", "/data/*.csv", "/*/a/**", "/d*")
NAMES = ("orders", "orders.new", "orders.old", "other")
NAME_PATTERNS = (*NAMES, "*", "orders.*", "o*", "*.new")

scopes = st.one_of(
    st.builds(
        "net:{}{}{}".format, st.sampled_from(PATTERNS), st.sampled_from(PORTS), st.sampled_from(METHODS)
    ),
    st.builds("files:{}:{}".format, st.sampled_from(("read", "write")), st.sampled_from(PATH_PATTERNS)),
    st.builds("secret:{}".format, st.sampled_from(NAME_PATTERNS)),
    st.just("cache"),
)
requests = st.one_of(
    st.builds(
        "net:{}:{}/{}".format,
        st.sampled_from(HOSTS),
        st.sampled_from(("80", "443", "8443")),
        st.sampled_from(("GET", "POST")),
    ),
    st.builds("files:{}:{}".format, st.sampled_from(("read", "write")), st.sampled_from(PATHS)),
    st.builds("secret:{}".format, st.sampled_from(NAMES)),
    st.just("cache"),
)
times = st.integers(0, 14 * 24 * 60).map(lambda minutes: minutes * 60.0 + 30)
_timeless = {
    "tenants": st.sets(st.sampled_from(("red", "blue")), max_size=2).map(sorted),
    "arguments": st.dictionaries(
        st.sampled_from(("path", "table")), st.sampled_from(("/v1/*", "*", "sales")), max_size=2
    ),
    "until": times,
}
plain_conditions = st.fixed_dictionaries({}, optional=_timeless)
conditions = st.one_of(
    st.just({}),
    plain_conditions,
    st.fixed_dictionaries(
        {"hours": st.tuples(st.integers(0, 23), st.integers(0, 23)).filter(lambda h: h[0] != h[1]),
         "days": st.sets(st.integers(0, 6), min_size=1).map(sorted)},
        optional=_timeless,
    ),
)  # fmt: skip
counting = st.one_of(
    conditions,
    st.fixed_dictionaries({"calls": st.integers(1, 3)}, optional=_timeless),
    st.fixed_dictionaries({"rate": st.integers(1, 3)}, optional=_timeless),
)
layers = st.sampled_from(("system", "user", "project", "given"))
rules = st.one_of(
    st.fixed_dictionaries(
        {"effect": st.just("allow"), "scope": scopes, "conditions": counting, "layer": layers}
    ),
    st.fixed_dictionaries(
        {
            "effect": st.sampled_from(("deny", "ask")),
            "scope": scopes,
            "conditions": conditions,
            "layer": layers,
        }
    ),
)
grants = st.fixed_dictionaries(
    {"scope": scopes, "conditions": counting, "app": st.sampled_from(("", "mine", "theirs")),
     "session": st.sampled_from(("", "s1", "s2"))}
)  # fmt: skip
asks = st.fixed_dictionaries({"scope": scopes, "conditions": counting})
cases = st.fixed_dictionaries(
    {
        "request": requests,
        "rules": st.lists(rules, max_size=6),
        "grants": st.lists(grants, max_size=4),
        "asks": st.none() | st.lists(asks, max_size=4),
        "now": times,
        "latest": times,
        "tenant": st.sampled_from(("", "red", "green")),
        "session": st.sampled_from(("s1", "s2")),
        "arguments": st.dictionaries(
            st.sampled_from(("path", "table")),
            st.sampled_from(("/v1/x", "/v1/../admin", "sales")),
            max_size=2,
        ),
        "app": st.just("mine"),
        "confirm": st.booleans(),
        "default": st.sampled_from(("ask", "deny")),
        "spent": st.sets(st.integers(0, 20)),
    }
)


@dataclass(frozen=True)
class Arguments:
    """What ``decide`` is given."""

    manifest: Manifest
    grants: Index[Grant]
    policy: Policy
    request: Request
    clock: Clock
    counters: dict[str, Count]

    def all(self) -> tuple[Any, ...]:
        return (self.manifest, self.grants, self.policy, self.request, self.clock, self.counters)


def built(case: dict[str, Any]) -> Arguments:
    """The case as values of the product. Counted things with an odd place among ``spent`` are used up."""
    made_rules = [_rule(rule) for rule in case["rules"]]
    made_grants = [_grant(grant) for grant in case["grants"]]
    made_asks = None if case["asks"] is None else [_ask(ask) for ask in case["asks"]]
    clock = Clock(now=case["now"], latest=case["latest"], monotonic=1000.0)
    everything = [*made_rules, *made_grants, *(made_asks or [])]
    counters = {
        f"mine {one.identity}": Count(calls=99, tokens=0.0, at=1000.0)
        for one in everything
        if one.conditions.counts and is_spent(case, str(one.scope))
    }
    source = Source(name="test", layer=Layer.GIVEN, rules=tuple(made_rules), default=Effect(case["default"]))
    return Arguments(
        manifest=app(None if made_asks is None else made_asks),
        grants=Index(made_grants),
        policy=Policy([source], confirm=case["confirm"]),
        request=Request(
            scope=parse_request(case["request"]),
            arguments=case["arguments"],
            tenant=case["tenant"],
            session=case["session"],
        ),
        clock=clock,
        counters=counters,
    )


def is_spent(case: dict[str, Any], scope: str) -> bool:
    """Whether all that counts with this scope is used up in this case."""
    return sum(map(ord, scope)) % 21 in case["spent"]


def with_use(case: dict[str, Any]) -> dict[str, Any]:
    """The case for the oracle: with what was used of each."""
    return {**case, "used": lambda one: _used(case, one)}


def _used(case: dict[str, Any], one: dict[str, Any]) -> dict[str, Any] | None:
    counts = {"calls", "rate"} & one["conditions"].keys()
    scope = str(parse_scope(one["scope"]))
    return {"calls": 99, "tokens": 0} if counts and is_spent(case, scope) else None


def app(asks: list[Ask] | None, name: str = "mine") -> Manifest:
    """A manifest of these asks."""
    indexed = None if asks is None else Index(asks)
    return Manifest(
        id=name, name=name, stamp="s", holder=name, asks=indexed, limits={}, table=ManifestTable(id=name)
    )


def _conditions(given: dict[str, Any]) -> Conditions:
    window = None
    if "hours" in given:
        begin, end = given["hours"]
        window = Window(frozenset(given["days"]), begin * 60, end * 60, utc=True)
    return Conditions(
        window=window,
        until=given.get("until"),
        rate=Rate(given["rate"], 60.0) if "rate" in given else None,
        quota=Quota(calls=given["calls"]) if "calls" in given else None,
        arguments=tuple(sorted(given.get("arguments", {}).items())),
        tenants=frozenset(given["tenants"]) if "tenants" in given else None,
    )


def _rule(rule: dict[str, Any]) -> Rule:
    return Rule(
        effect=Effect(rule["effect"]),
        scope=parse_scope(rule["scope"]),
        conditions=_conditions(rule["conditions"]),
        layer=Layer(rule["layer"]),
    )


def _grant(grant: dict[str, Any]) -> Grant:
    return Grant(
        scope=parse_scope(grant["scope"]),
        conditions=_conditions(grant["conditions"]),
        app=grant["app"],
        session=grant["session"],
    )


def _ask(ask: dict[str, Any]) -> Ask:
    return Ask(scope=parse_scope(ask["scope"]), conditions=_conditions(ask["conditions"]))

"""One decision among 200 grants, and making the index that it is decided with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.bars import LINEAR
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.registry import benchmark
from kernel_runtime.domain.clock import Clock
from kernel_runtime.domain.conditions import Conditions
from kernel_runtime.domain.decide import Request, decide
from kernel_runtime.domain.manifest import undeclared
from kernel_runtime.domain.matching import Index, covers
from kernel_runtime.domain.policy import Policy, Source
from kernel_runtime.domain.rules import Effect, Grant, Layer, Rule
from kernel_runtime.domain.scopes import parse_request, parse_scope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

GRANTS = 200


@benchmark(
    "decide",
    Spec(name="decide.granted", what=f"a decision that allows, {GRANTS} grants and as many rules"),
    Spec(name="decide.denied", what="a decision that nothing allows, likewise"),
    Spec(name="decide.alike", what=f"a decision where {GRANTS} grants cover the request and none holds"),
    Spec(name="decide.index", what=f"making the index of {GRANTS} grants, once"),
)
def decisions(scale: Scale) -> Iterator[Reading]:
    """Hosts, paths, names and topics in equal parts, with and without wildcards."""
    grants, policy = Index(various()), rules()
    alike = Index(same_scope())
    for _ in range(scale.rounds):
        yield Reading("decide.granted", OURS, decided(scale, grants, policy, "net:h49.example.org/GET"))
        yield Reading("decide.granted", LINEAR, one_by_one(scale, grants, "net:h49.example.org/GET"))
        yield Reading("decide.denied", OURS, decided(scale, grants, policy, "net:no.example.com/GET"))
        yield Reading("decide.denied", LINEAR, one_by_one(scale, grants, "net:no.example.com/GET"))
        yield Reading("decide.alike", OURS, decided(scale, alike, policy, "net:h.example.org/GET"))
        begun = time.perf_counter()
        Index(various())
        yield Reading("decide.index", OURS, time.perf_counter() - begun)


def various() -> list[Grant]:
    texts = [
        text
        for n in range(GRANTS // 4)
        for text in (
            f"net:h{n}.example.org" if n % 2 else f"net:*.h{n}.example.org/GET",
            f"files:read:/srv/d{n}/**" if n % 2 else f"files:write:/srv/d{n}/*.csv",
            f"secret:KEY_{n}",
            f"events:publish:topic{n}.*",
        )
    ]
    return [Grant(scope=parse_scope(text)) for text in texts]


def rules() -> Policy:
    made = tuple(
        Rule(
            effect=Effect.DENY if n % 2 else Effect.ALLOW,
            scope=parse_scope(f"net:r{n}.example.net"),
            layer=Layer.USER,
        )
        for n in range(GRANTS)
    )
    return Policy([Source(name="policy.toml", layer=Layer.USER, rules=made)])


def same_scope() -> list[Grant]:
    """The worst case for an index: every grant has to be looked at."""
    return [
        Grant(scope=parse_scope("net:*.example.org"), conditions=Conditions(tenants=frozenset({f"t{n}"})))
        for n in range(GRANTS)
    ]


def decided(scale: Scale, grants: Index[Grant], policy: Policy, text: str) -> float:
    """Seconds of one decision."""
    manifest, request, clock = (
        undeclared("app"),
        Request(scope=parse_request(text), tenant="none"),
        Clock(now=1e9),
    )
    begun = time.perf_counter()
    for _ in range(scale.decisions):
        decide(manifest, grants, policy, request, clock, {})
    return (time.perf_counter() - begun) / scale.decisions


def one_by_one(scale: Scale, grants: Index[Grant], text: str) -> float:
    """Seconds to find the grants that cover a request by looking at each; nothing more is decided."""
    wanted = parse_request(text)
    count = max(1, scale.decisions // 20)
    begun = time.perf_counter()
    for _ in range(count):
        [grant for grant in grants if covers(grant.scope, wanted)]
    return (time.perf_counter() - begun) / count

"""What it costs to write decisions down."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bars import CONTROL
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.registry import benchmark
from kernel_runtime.broker.gate import host_clock
from kernel_runtime.domain.conditions import Conditions, Quota
from kernel_runtime.domain.decide import Request, decide
from kernel_runtime.domain.manifest import undeclared
from kernel_runtime.domain.matching import Index
from kernel_runtime.domain.policy import Policy, Source
from kernel_runtime.domain.rules import Effect, Grant, Layer, Rule
from kernel_runtime.domain.scopes import parse_request
from kernel_runtime.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale
    from kernel_runtime.broker.gate import Gate

MANIFEST = undeclared("app")
REQUEST = Request(scope=parse_request("cache"))


@benchmark(
    "audit",
    Spec(name="audit.ask", what="a request decided and written down"),
    Spec(name="audit.counted", what="a request decided, counted towards a quota and written down"),
    Spec(name="audit.records", what="records a second, one transaction each", unit="/s"),
    Spec(name="audit.verify", what="records verified a second", unit="/s"),
)
def audit(scale: Scale) -> Iterator[Reading]:
    """In a database of its own on the disk for temporary files."""
    count = max(10, scale.decisions // 10)
    for _ in range(scale.rounds):
        with tempfile.TemporaryDirectory() as place, State(Path(place) / "state") as state:
            seconds = asked(state.gate(MANIFEST, allowing(Conditions())), count)
            yield Reading("audit.ask", OURS, seconds)
            yield Reading("audit.ask", CONTROL, unlogged(count))
            yield Reading("audit.records", OURS, 1 / seconds)
            quota = Conditions(quota=Quota(calls=10**9))
            yield Reading("audit.counted", OURS, asked(state.gate(MANIFEST, allowing(quota)), count))
            begun = time.perf_counter()
            records = state.audit.verify().records
            yield Reading("audit.verify", OURS, records / (time.perf_counter() - begun))


def allowing(conditions: Conditions) -> Policy:
    rule = Rule(effect=Effect.ALLOW, scope=REQUEST.scope, conditions=conditions)
    return Policy([Source(name="policy.toml", layer=Layer.USER, rules=(rule,))])


def asked(gate: Gate, count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        gate.ask(REQUEST)
    return (time.perf_counter() - begun) / count


def unlogged(count: int) -> float:
    policy = allowing(Conditions())
    grants: Index[Grant] = Index(())
    begun = time.perf_counter()
    for _ in range(count):
        decide(MANIFEST, grants, policy, REQUEST, host_clock(0.0), {})
    return (time.perf_counter() - begun) / count

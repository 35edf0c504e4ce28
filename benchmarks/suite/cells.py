"""The round trip of a small cell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.figures import Reading, Spec, percentile
from benchmarks.kernels import Kernel, house, pair
from benchmarks.registry import benchmark
from benchmarks.turns import turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale


@benchmark(
    "cells",
    Spec(name="cell.p50", what="cell round trip, request → reply and idle, p50"),
    Spec(name="cell.p99", what="cell round trip, p99"),
    Spec(name="cell.between_questions", what="cell round trip between other requests, p50"),
    Spec(name="cells.one_at_a_time", what="cells one at a time", unit="/s"),
    Spec(name="cells.pipelined", what="cells sent at once", unit="/s"),
)
def cells(scale: Scale) -> Iterator[Reading]:
    """Two kernels side by side run `1+1` in turns of ``scale.cells``."""
    with house(), pair(scale.idle) as both:
        for one in turns(2, both):
            _one_at_a_time(one, scale.cells)  # not counted: both warm
        for one in turns(scale.rounds, both):
            times = _one_at_a_time(one, scale.cells)
            yield Reading("cell.p50", one.subject, percentile(times, 0.5))
            yield Reading("cell.p99", one.subject, percentile(times, 0.99))
            yield Reading(
                "cell.between_questions", one.subject, percentile(_questioned(one, scale.cells), 0.5)
            )
            yield Reading("cells.one_at_a_time", one.subject, len(times) / sum(times))
            yield Reading("cells.pipelined", one.subject, _pipelined(one, scale.cells))


def _one_at_a_time(one: Kernel, count: int) -> list[float]:
    return [one.seconds("1+1") for _ in range(count)]


def _questioned(one: Kernel, count: int) -> list[float]:
    """Front ends ask this and that between cells; delayed acknowledgements would show here."""
    times = []
    for _ in range(count):
        one.info()
        times.append(one.seconds("1+1"))
    return times


def _pipelined(one: Kernel, count: int) -> float:
    begun = time.perf_counter()
    asked = [one.client.execute("1+1") for _ in range(count)]
    for message in asked:
        one.reply(message)
    one.idle(asked[-1])
    return count / (time.perf_counter() - begun)

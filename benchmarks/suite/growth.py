"""From 1 to 200 live guests: whether the next one still starts, answers and weighs the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figures import OURS, Reading, Spec, percentile
from benchmarks.guests import Guest, stand
from benchmarks.processes import pss, tree
from benchmarks.registry import benchmark
from kernel_runtime.runtime import PRELOAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.guests import Stand
    from benchmarks.scale import Scale

_FEW = 10


@benchmark(
    "growth",
    Spec(name="growth.start_few", what="fork asked for → first result, among the first 10 guests"),
    Spec(name="growth.start_many", what="the same among the last 10 of all live guests"),
    Spec(name="growth.cell_few", what="round trip of a cell while 10 guests live"),
    Spec(name="growth.cell_many", what="the same while all guests live"),
    Spec(name="growth.memory", what="memory each live guest adds (PSS of all, over their number)", unit="B"),
)
def growth(scale: Scale) -> Iterator[Reading]:
    """``scale.live`` sessions of one zygote, all kept; each has run a cell."""
    with stand(PRELOAD) as ours:
        guests: list[Guest] = []
        try:
            starts = []
            for number in range(max(scale.live, 2 * _FEW)):
                starts.append(ours.wait(_start(ours, guests)))
                if number == _FEW - 1:
                    yield from (Reading("growth.cell_few", OURS, one) for one in _cells(ours, guests))
            yield from (Reading("growth.start_few", OURS, one) for one in starts[:_FEW])
            yield from (Reading("growth.start_many", OURS, one) for one in starts[-_FEW:])
            yield from (Reading("growth.cell_many", OURS, one) for one in _cells(ours, guests))
            used = sum(pss(tree(one.pid)) for one in guests)
            yield Reading("growth.memory", OURS, used / len(guests))
        finally:
            for one in guests:
                one.end()


async def _start(ours: Stand, guests: list[Guest]) -> float:
    one = Guest(ours, ours.plan())
    await one.be_born()
    guests.append(one)
    await one.fork()
    await one.run("1+1")
    return one.since("result")


def _cells(ours: Stand, guests: list[Guest]) -> list[float]:
    """The median round trip of ``_FEW`` guests spread over all that live."""
    chosen = guests[:: max(1, len(guests) // _FEW)]
    return [percentile([ours.wait(_cell(one)) for _ in range(5)], 0.5) for one in chosen]


async def _cell(one: Guest) -> float:
    before = one.now()
    await one.run("1+1")
    return one.now() - before

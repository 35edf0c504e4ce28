"""What each wall costs: a guest behind all of them, and one without that wall, in turns."""

from __future__ import annotations

import asyncio
import statistics
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.bars import FORK
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.guests import Guest, Stand, stand
from benchmarks.registry import benchmark
from kernel_runtime.runtime import PRELOAD
from kernel_runtime.sandbox.plan import WALLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

_PAIRS = 3


@benchmark(
    "walls",
    *(Spec(name=f"walls.{wall}", what=f"what the wall '{wall}' adds to a guest's start") for wall in WALLS),
    Spec(name="walls.none", what="fork asked for → code can start, no wall but the zygote's own"),
)
def walls(scale: Scale) -> Iterator[Reading]:
    """A wall's cost is the difference of two medians within one round; noise may make it negative."""
    with stand() as ours, peers.forker(PRELOAD) as forker:
        for _ in range(scale.rounds):
            for wall in WALLS:
                yield Reading(f"walls.{wall}", OURS, ours.wait(_cost(ours, wall)))
            yield Reading("walls.none", OURS, ours.wait(_start(ours, *WALLS)))
            yield Reading("walls.none", FORK, forker.fork("pass").started)


async def _cost(ours: Stand, wall: str) -> float:
    with_it, without = [], []
    for _ in range(_PAIRS):
        with_it.append(await _start(ours))
        without.append(await _start(ours, wall))
    return statistics.median(with_it) - statistics.median(without)


async def _start(ours: Stand, *without: str) -> float:
    one = Guest(ours, ours.plan(*without))
    await one.be_born()
    one.end()
    await asyncio.sleep(0.01)  # its end must not weigh on the next one's start
    return one.since("born")

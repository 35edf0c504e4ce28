"""How many guests a second one zygote gives."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.bars import FORK
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.guests import Guest, Stand, run, stand
from benchmarks.registry import benchmark
from kernel_runtime.runtime import PRELOAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

_IN_FLIGHT = 2


@benchmark(
    "rate",
    Spec(name="rate.walled", what="walled first processes, two in flight", unit="/s"),
    Spec(name="rate.sessions", what="whole sessions: start, `1+1`, close", unit="/s"),
)
def rate(scale: Scale) -> Iterator[Reading]:
    """Each guest is ended once it is born, or has given its result."""
    with stand() as ours, peers.forker(PRELOAD) as forker:
        for _ in range(scale.rounds):
            yield Reading("rate.walled", OURS, ours.wait(_walled(ours, scale.guests)))
            begun = time.perf_counter()
            for _ in range(scale.guests):
                forker.fork("pass")
            yield Reading("rate.walled", FORK, scale.guests / (time.perf_counter() - begun))
            yield Reading("rate.sessions", OURS, ours.wait(_sessions(ours, scale.guests)))


async def _walled(ours: Stand, count: int) -> float:
    async def some(number: int) -> None:
        for _ in range(number):
            one = Guest(ours, ours.plan())
            await one.be_born()
            one.end()

    begun = time.perf_counter()
    await asyncio.gather(*(some(count // _IN_FLIGHT) for _ in range(_IN_FLIGHT)))
    return count / (time.perf_counter() - begun)


async def _sessions(ours: Stand, count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        session = ours.session()
        await run(session, "1+1")
        await session.close()
    return count / (time.perf_counter() - begun)

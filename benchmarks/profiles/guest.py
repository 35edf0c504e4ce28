"""Where the time of a guest's start goes, step by step."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.guests import Guest, Stand, run, stand
from benchmarks.registry import profile
from benchmarks.suite.guest import CODE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

_STEPS = (
    ("host: control groups made", "begun", "metered"),
    ("zygote: fork, pidfd sent", "metered", "spawned"),
    ("pid 1: the walls, Born sent", "spawned", "born"),
    ("host: pipes and sockets of the branch", "born", "asked"),
    ("pid 1: prepares the shell, collects, forks", "asked", "forked"),
    ("branch: begins, Ready sent", "forked", "ready"),
    ("branch: first pandas cell", "ready", "result"),
)


@profile("guest", "From the spawn to the first result, warm zygote")
def guest(scale: Scale) -> Iterator[tuple[str, float]]:
    """Medians of the steps; then the same with pid 1 given time to prepare. (What each wall costs: the benchmark ``walls``.)"""
    count = scale.rounds * 5
    with stand() as ours:
        guests = [ours.wait(_live(ours, wait=0.0)) for _ in range(count)]
        for title, earlier, later in _STEPS:
            yield title, _median(guests, later, earlier)
        yield "= all of it", _median(guests, "result", "begun")
        guests = [ours.wait(_live(ours, wait=0.3)) for _ in range(scale.rounds)]
        yield "fork of a prepared pid 1", _median(guests, "forked", "asked")
        yield "branch begins, prepared pid 1", _median(guests, "ready", "forked")
        yield "its first pandas cell", _median(guests, "result", "ready")
        yield (
            "as a session, control groups and all",
            statistics.median([ours.wait(_session(ours)) for _ in range(count)]),
        )


async def _live(ours: Stand, wait: float) -> Guest:
    one = Guest(ours, ours.plan())
    await one.be_born()
    await asyncio.sleep(wait)
    await one.fork()
    await one.run(CODE)
    one.end()
    await asyncio.sleep(0.02)
    return one


async def _session(ours: Stand) -> float:
    begun = time.perf_counter()
    session = ours.session()
    await run(session, CODE)
    seconds = time.perf_counter() - begun
    await session.close()
    await asyncio.sleep(0.02)
    return seconds


def _median(guests: list[Guest], later: str, earlier: str) -> float:
    return statistics.median(one.since(later, earlier) for one in guests)

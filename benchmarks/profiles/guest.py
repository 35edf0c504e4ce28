"""Where the time of a guest's start goes: step by step, and each wall by leaving it out."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.guests import Guest, Stand, run, stand
from benchmarks.registry import profile
from benchmarks.suite.guest import CODE
from benchmarks.turns import turns
from kernel_runtime.runtime import PRELOAD
from kernel_runtime.sandbox.plan import WALLS

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
    """Medians of the steps; then the same with pid 1 given time to prepare; then the walls."""
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
        yield from _walls(ours, count)


def _walls(ours: Stand, count: int) -> Iterator[tuple[str, float]]:
    """In turns: all walls, none, and all but one; what leaving a wall out saves is its cost."""
    plans: dict[str, tuple[str, ...]] = {"": (), "*": WALLS, **{wall: (wall,) for wall in WALLS}}
    times: dict[str, list[float]] = {name: [] for name in plans}
    with peers.forker(PRELOAD) as forker:
        forked = []
        for name in turns(count, list(plans)):
            times[name].append(ours.wait(_born(ours, plans[name])))
            if not name:
                forked.append(forker.fork("pass").started)
    everything = statistics.median(times.pop(""))
    yield "plain fork of an equally warm process → child's first word", statistics.median(forked)
    yield "spawn → Born without any wall", statistics.median(times.pop("*"))
    yield "spawn → Born with all walls", everything
    for wall, values in times.items():
        yield f"  saved without {wall}", everything - statistics.median(values)


async def _live(ours: Stand, wait: float) -> Guest:
    one = Guest(ours, ours.plan())
    await one.be_born()
    await asyncio.sleep(wait)
    await one.fork()
    await one.run(CODE)
    one.end()
    await asyncio.sleep(0.02)
    return one


async def _born(ours: Stand, without: tuple[str, ...]) -> float:
    one = Guest(ours, ours.plan(*without))
    await one.be_born()
    one.end()
    await asyncio.sleep(0.02)
    return one.since("born")


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

"""Where the time of a cell's round trip goes."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.guests import Stand, run, stand
from benchmarks.kernels import Kernel, house, pair
from benchmarks.registry import profile
from benchmarks.turns import turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale


@profile("cells", "The round trip of `1+1`")
def cells(scale: Scale) -> Iterator[tuple[str, float]]:
    """The guest alone, then through the whole kernel, and what the client itself costs."""
    with stand() as ours:
        yield (
            "session → guest → session, no Jupyter",
            statistics.median(ours.wait(_session(ours, scale.cells * 3))),
        )
    with house(), pair(scale.idle) as both:
        spent: dict[str, list[float]] = {}
        for one in turns(scale.rounds + 1, both):
            for title, seconds in _kernel(one, scale.cells):
                spent.setdefault(f"{one.subject}: {title}", []).append(seconds)
        for title, values in sorted(spent.items()):
            yield title, statistics.median(values)


async def _session(ours: Stand, count: int) -> list[float]:
    session = ours.session()
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await run(session, "1+1")
        times.append(time.perf_counter() - begun)
    await session.close()
    return times


def _kernel(one: Kernel, count: int) -> Iterator[tuple[str, float]]:
    for _ in range(count):
        begun = time.perf_counter()
        asked = one.client.execute("1+1")
        sent = time.perf_counter()
        one.reply(asked)
        replied = time.perf_counter()
        one.idle(asked)
        yield "the client builds and sends the request", sent - begun
        yield "→ execute_reply", replied - begun
        yield "→ idle", time.perf_counter() - begun
        yield "kernel_info instead of a cell", _info(one)


def _info(one: Kernel) -> float:
    begun = time.perf_counter()
    one.info()
    return time.perf_counter() - begun

"""Snapshots by what a state is made of: arrays, a table, or Python objects alone."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks.bars import FORK
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.floor import forks
from benchmarks.guests import run, stand
from benchmarks.registry import benchmark
from benchmarks.sizes import SIZES, sizes
from benchmarks.states import KINDS, MIX
from kernel_runtime.domain.amounts import GIB
from kernel_runtime.domain.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.guests import Stand
    from benchmarks.scale import Scale

#: The state, and what is written to it in a copy: so many times its size must be free.
_PILE = 2.0
#: As long as it takes at most to put the memory of a new state together into huge pages, and to make copies ahead.
_RESTED = 3.0
_NAMES = {"numpy": "numpy arrays", "table": "a DataFrame", "objects": "dictionaries and texts"}
_WHAT = {
    "pause": "the session stands still for the first snapshot of a state that has rested",
    "restore": "restore → first reply",
    "recovery": "a cell that kills its process → result of the next",
}
assert KINDS.keys() > _NAMES.keys()


@benchmark(
    "kinds",
    *(
        Spec(name=f"kinds.{name}.{kind}.{size}", what=f"{said}: {what}, {size}")
        for kind, said in _NAMES.items()
        for name, what in _WHAT.items()
        for size in SIZES
    ),
)
def kinds(scale: Scale) -> Iterator[Reading]:
    """Each kind at each size in a guest of its own; the peer: a fork of a process that holds the same."""
    with stand() as ours:
        for kind in [*_NAMES] * max(1, scale.rounds // 3):
            for label, size in sizes(scale, f"kinds.{kind}", _PILE):
                for name, value in ours.wait(_moments(ours, kind, size, min(_RESTED, scale.idle))):
                    yield Reading(f"kinds.{name}.{kind}.{label}", OURS, value)
                yield Reading(f"kinds.pause.{kind}.{label}", FORK, forks(size, kind=kind)[0])


async def _moments(ours: Stand, kind: str, size: int, rest: float) -> list[tuple[str, float]]:
    session = ours.session(automatic=False, limits=Limits(memory=int(_PILE * size) + 4 * GIB))
    try:
        await run(session, f"{MIX}\nstate = make({size}, {kind!r})")
        await asyncio.sleep(rest)
        pause = (await session.snapshots.take("point")).pause
        await asyncio.sleep(rest)
        begun = time.perf_counter()
        await session.snapshots.restore("point")
        await run(session, "state['ordered'][1]")
        restored = time.perf_counter()
        await asyncio.sleep(rest)
        killed = time.perf_counter()
        await run(session, "import os; os.kill(os.getpid(), 9)")
        await run(session, "state['ordered'][1]")
        return [
            ("pause", pause),
            ("restore", restored - begun),
            ("recovery", time.perf_counter() - killed),
        ]
    finally:
        await session.close()

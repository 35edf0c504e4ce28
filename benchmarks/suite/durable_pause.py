"""How long a session stands still for a checkpoint: its own heart is listened to while it is written."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from typing import TYPE_CHECKING

from benchmarks.bars import CONTROL, FORK
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.floor import forks
from benchmarks.guests import run, stand
from benchmarks.registry import benchmark
from benchmarks.sizes import SIZES, sizes
from benchmarks.states import MIX
from benchmarks.suite.durable import directory
from kernel_runtime.domain.amounts import GIB
from kernel_runtime.domain.limits import Limits
from kernel_runtime.store.checkpoints import DiskStore
from kernel_runtime.store.keys import NoKey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from benchmarks.guests import Stand
    from benchmarks.scale import Scale
    from kernel_runtime.workers.session import Session

_MB = 1_000_000
#: The state, what its writer copies of it, and what comes back: so many times its size must be free.
_PILE = 3.0
_CHANGED = 0.01
#: As long as it takes at most to put the memory of a new state together into huge pages, and to make copies ahead.
_RESTED = 3.0
_BEATEN = 0.1
#: A task of the notebook's: seconds between two of its beats. Nothing else runs between cells.
_BEAT = """
import asyncio, time
gaps = []
async def beat():
    last = time.perf_counter()
    while True:
        await asyncio.sleep(0.0005)
        now = time.perf_counter(); gaps.append(now - last); last = now
def longest():
    "Of those since they were cleared, but for the first, in which that cell came to its end."
    told = sorted(gaps[1:])
    return told[-1] - told[len(told) // 2]
beating = asyncio.get_running_loop().create_task(beat())
"""


@benchmark(
    "durable_pause",
    Spec(name="durable.pause", what="a checkpoint is made: the session does nothing else for so long at a time"),
    *(
        Spec(name=f"durable.pause.{size}", what=f"the same, a mix of {size}, 1 % changed since the last")
        for size in SIZES
    ),
)  # fmt: skip
def durable_pause(scale: Scale) -> Iterator[Reading]:
    """A mix, 1 % of its arrays changed since the checkpoint before; the peers: a fork of a process that holds the same, and
    the same session without a checkpoint."""
    with stand() as ours:
        rest = min(_RESTED, scale.idle)
        yield from _paused(ours, "durable.pause", scale.state * _MB, scale.rounds, rest)
        for label, size in sizes(scale, "durable.pause", _PILE):
            yield from _paused(ours, f"durable.pause.{label}", size, 1, rest)


def _paused(ours: Stand, name: str, size: int, rounds: int, rest: float) -> Iterator[Reading]:
    for pause, quiet in ours.wait(_pauses(ours, size, rounds, rest)):
        yield Reading(name, OURS, pause)
        yield Reading(name, CONTROL, quiet)
    for _ in range(min(rounds, 3)):
        yield Reading(name, FORK, forks(size, share=_CHANGED)[1])
    gc.collect()


async def _pauses(ours: Stand, size: int, rounds: int, rest: float) -> list[tuple[float, float]]:
    with directory() as place, contextlib.closing(DiskStore(place / "store", NoKey())) as store:
        limits = Limits(memory=int(_PILE * size) + 4 * GIB)
        session = ours.session(automatic=False, limits=limits, store=store)
        try:
            await run(session, f"{MIX}\nstate = make({size})\n{_BEAT}")
            await session.checkpoint()
            return [await _pause(session, rest) for _ in range(rounds)]
        finally:
            await session.close()


async def _pause(session: Session, rest: float) -> tuple[float, float]:
    """The longest time between two beats, less the usual one, from before it is asked for until it is on disk; and in as
    long a time without a checkpoint, which is what the machine does to everybody."""
    await run(session, f"touch(state, {_CHANGED})")
    await asyncio.sleep(rest)
    begun = time.perf_counter()
    pause = await _longest(session, session.checkpoint())
    return pause, await _longest(session, asyncio.sleep(time.perf_counter() - begun))


async def _longest(session: Session, meanwhile: Awaitable[object]) -> float:
    await run(session, "gaps.clear()")
    await asyncio.sleep(_BEATEN)
    await meanwhile
    return float(await run(session, "print(longest())"))

"""What a snapshot costs, at once and afterwards, and how soon one is back; beside dumps of the same state."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from typing import TYPE_CHECKING

from benchmarks import kishu
from benchmarks.bars import FORK
from benchmarks.figures import OURS, Reading, Spec, percentile
from benchmarks.floor import forks, printed
from benchmarks.guests import run, stand
from benchmarks.kishu import is_asked_for, notebook
from benchmarks.registry import benchmark
from benchmarks.sizes import SIZES, sizes
from benchmarks.states import MIX
from benchmarks.turns import turns
from kernel_runtime.domain.amounts import GIB
from kernel_runtime.domain.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.guests import Stand
    from benchmarks.scale import Scale
    from kernel_runtime.workers.session import Session

#: A dump, what is loaded from it and the state itself: so many times its size must be free.
_PILE = 3.5
#: As long as it takes at most to put the memory of a new state together into huge pages, and to make copies ahead.
_RESTED = 3.0
#: References are counted in each object: pages of objects are copied by looking at them.
_LOOP = "sum(1 for one in state['objects'] if one is state)"
_CELLS = 5
#: Picklers of whole sessions, where they are installed (the extra ``bench``).
PEERS = ("cloudpickle", "dill")
_PEER = """
import sys, time, NAME as pickler
exec(MIX)
state = make(int(sys.argv[1]))
begun = time.perf_counter(); data = pickler.dumps(state); dumped = time.perf_counter() - begun
begun = time.perf_counter(); pickler.loads(data); print(dumped, time.perf_counter() - begun)
"""


def _by_size(name: str, what: str, unit: str = "s") -> tuple[Spec, ...]:
    return tuple(Spec(name=f"branching.{name}.{size}", what=f"{what}, {size}", unit=unit) for size in SIZES)


@benchmark(
    "branching",
    *_by_size("pause", "a snapshot is asked for by a session that has rested a moment → it is there"),
    *_by_size("pause_forked", "the session stands still for the first snapshot, where no copy was made ahead"),
    *_by_size("pause_again", "the same right after a cell, 10 % of the arrays changed since the last one"),
    *_by_size("restore", "restore asked for by a session that has rested a moment → first reply of the state that came back"),
    *_by_size("restore_at_once", "the same, asked for right after a cell"),
    *_by_size("recovery", "a cell that kills its process → result of the next, with the state"),
    *_by_size("first_write", "10 % of the arrays written, the first time after a snapshot"),
    *_by_size("second_write", "the same again"),
    *_by_size("first_loop", "a loop over all objects, which counts references in each, the first time after a snapshot"),
    *_by_size("second_loop", "the same again"),
    *_by_size("automatic", "the session stands still for the snapshot before a cell; each cell writes 1 % of the arrays"),
    *_by_size("memory.same", "memory of one more snapshot, nothing changed", "B"),
    *_by_size("memory.churn_1", "the same, 1 % of the arrays changed", "B"),
    *_by_size("memory.churn_10", "the same, 10 % changed", "B"),
)  # fmt: skip
def branching(scale: Scale) -> Iterator[Reading]:
    """Each size in a guest of its own; forks and dumps of the same state in fresh interpreters in between."""
    with stand() as ours:
        for number in range(max(1, scale.rounds // 3)):
            for label, carried in sizes(scale, "branching", _PILE):
                for name, value in ours.wait(_carried(ours, carried)):
                    yield Reading(f"branching.{name}.{label}", OURS, value)
                first, again = forks(carried, share=0.1)
                yield Reading(f"branching.pause.{label}", FORK, first)
                yield Reading(f"branching.pause_forked.{label}", FORK, first)
                yield Reading(f"branching.pause_again.{label}", FORK, again)
                yield Reading(f"branching.automatic.{label}", FORK, again)
                for name, value in ours.wait(_in_a_notebook(ours, carried)):
                    yield Reading(f"branching.{name}.{label}", OURS, value)
                for peer in filter(importlib.util.find_spec, PEERS):
                    dumped, loaded = printed(_PEER.replace("NAME", peer), carried)
                    yield Reading(f"branching.pause.{label}", peer, dumped)
                    yield Reading(f"branching.restore.{label}", peer, loaded)
                if is_asked_for():
                    yield from _beside(label, carried, number)


def _beside(label: str, size: int, number: int) -> Iterator[Reading]:
    """kishu with the same state, up to the size that was asked for: a large one once."""
    if size > kishu.most() or (size > kishu.OFTEN and number):
        kishu.leave_out("branching", label)
        return
    begun = time.perf_counter()
    for name, value in _under_kishu(size):
        yield Reading(f"branching.{name}.{label}", kishu.KISHU, value)
    kishu.took(label, time.perf_counter() - begun)


def _under_kishu(size: int) -> Iterator[tuple[str, float]]:
    """The same state as variables of their own: kishu stores a variable as a whole."""
    with notebook() as watched:
        watched.run(MIX)
        yield "pause", watched.run(f"random, ordered, table, objects = make({size}).values()")[0]
        yield "pause_again", watched.run("touch({'random': random, 'ordered': ordered}, 0.1)")[0]
        yield "restore", watched.back(2, "ordered[1]")


async def _carried(ours: Stand, size: int) -> list[tuple[str, float]]:
    session = ours.session(automatic=False, limits=Limits(memory=int(_PILE * size) + 4 * GIB))
    found: list[tuple[str, float]] = []
    try:
        await run(session, f"{MIX}\nstate = make({size})")
        await asyncio.sleep(_RESTED)
        found += await _moments(session)
        for name, share in (("same", 0.0), ("churn_1", 0.01), ("churn_10", 0.1)):
            found.append((f"memory.{name}", await _grown(session, share)))
        found.append(("recovery", await _recovered(session)))
    finally:
        await session.close()
    return found


async def _moments(session: Session) -> list[tuple[str, float]]:
    first = await session.snapshots.take("first")
    write = "touch(state, 0.1)"
    found = [
        ("pause_forked", first.pause),
        ("first_write", await _timed(session, write)),
        ("second_write", await _timed(session, write)),
    ]
    await session.snapshots.take()
    found += [(name, await _timed(session, _LOOP)) for name in ("first_loop", "second_loop")]
    found.append(("pause_again", (await session.snapshots.take()).pause))
    found.append(("restore_at_once", await _restored(session)))
    await asyncio.sleep(_RESTED)
    found.append(("restore", await _restored(session)))
    return found


async def _in_a_notebook(ours: Stand, size: int) -> list[tuple[str, float]]:
    """With a snapshot before each cell, as notebooks have it: how long one takes that is asked for at rest, and what each
    automatic one took of the session's time, none of them right after the state was made."""
    session = ours.session(limits=Limits(memory=int(_PILE * size) + 4 * GIB))
    try:
        await run(session, f"{MIX}\nstate = make({size})")
        await asyncio.sleep(_RESTED)
        begun = time.perf_counter()
        await session.snapshots.take("asked")
        found = [("pause", time.perf_counter() - begun)]
        await asyncio.sleep(_RESTED)
        for _ in range(_CELLS):
            await run(session, "touch(state, 0.01)")
        listed = session.snapshots.listing()
        return found + [("automatic", one.pause) for one in listed if one.cell and one.automatic]
    finally:
        await session.close()


async def _restored(session: Session) -> float:
    begun = time.perf_counter()
    await session.snapshots.restore("first")
    await run(session, "state['ordered'][1]")
    return time.perf_counter() - begun


async def _timed(session: Session, code: str) -> float:
    """Seconds by the guest's own clock, without the round trip."""
    printed = await run(
        session, f"import time; t = time.perf_counter(); {code}; print(time.perf_counter() - t)"
    )
    return float(printed)


async def _grown(session: Session, share: float) -> float:
    """What the whole session weighs more after one more snapshot with so much changed since the last."""
    await session.snapshots.take()
    before = (await session.usage()).memory
    await run(session, f"touch(state, {share})")
    await session.snapshots.take()
    return max(0.0, (await session.usage()).memory - before)


async def _recovered(session: Session) -> float:
    await session.snapshots.take("last")
    await asyncio.sleep(0.3)
    begun = time.perf_counter()
    await run(session, "import os; os.kill(os.getpid(), 9)")
    await run(session, "state['ordered'][1]")
    return time.perf_counter() - begun


@benchmark(
    "automatic",
    Spec(name="automatic.cell", what="round trip of a trivial cell, a snapshot before each (without: as subject)"),
    Spec(name="automatic.pause", what="of it, the session stands still"),
)  # fmt: skip
def automatic(scale: Scale) -> Iterator[Reading]:
    """Two sessions of one zygote take turns, one of them without snapshots."""
    with stand() as ours:
        yield from ours.wait(_cells(ours, scale))


async def _cells(ours: Stand, scale: Scale) -> list[Reading]:
    both = {OURS: ours.session(), "without snapshots": ours.session(automatic=False)}
    found = []
    try:
        for subject in turns(scale.rounds + 1, list(both)):
            times = [await _round_trip(both[subject]) for _ in range(scale.cells)]
            found.append(Reading("automatic.cell", subject, percentile(times, 0.5)))
        pauses = [snapshot.pause for snapshot in both[OURS].snapshots.listing()]
        found += [Reading("automatic.pause", OURS, pause) for pause in pauses]
    finally:
        for session in both.values():
            await session.close()
    return found


async def _round_trip(session: Session) -> float:
    begun = time.perf_counter()
    await run(session, "1+1")
    return time.perf_counter() - begun

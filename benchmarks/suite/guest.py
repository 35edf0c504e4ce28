"""A walled guest from a warm zygote, beside a plain fork and bubblewrap."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from benchmarks import floor, peers
from benchmarks.bars import BWRAP, BWRAP_PANDAS, FORK
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.guests import Guest, Stand, run, stand
from benchmarks.processes import private, tree
from benchmarks.registry import benchmark
from kernel_runtime.runtime import PRELOAD
from kernel_runtime.workers.processes import pid_within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

_SHELL = "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance()"
_CELL = "shell.run_cell('1+1', store_history=False)"
CODE = "import pandas; pandas.DataFrame({'a': [1, 2, 3]})"


@benchmark(
    "guest",
    Spec(name="guest.first_result", what="session asked for → first pandas result, warm zygote"),
    Spec(name="guest.walls", what="fork asked for → code can start, all walls entered"),
    Spec(name="guest.walls_unprepared", what="the same, nothing of it begun ahead"),
    Spec(name="guest.branch", what="a prepared guest's next live branch → ready"),
    Spec(name="guest.restart", what="restart of a session → next result"),
)
def guest(scale: Scale) -> Iterator[Reading]:
    """Everything in turns within one run; bubblewrap only in some rounds, as it is slow."""
    with stand() as ours, peers.forker(PRELOAD) as forker:
        bwrap = peers.has_bwrap()
        for number in range(scale.rounds * 3):
            yield from ours.wait(_session(ours))
            yield from ours.wait(_steps(ours))
            forked = forker.fork(f"{CODE}; print(repr(pandas.DataFrame({{'a': [1, 2, 3]}})))")
            yield Reading("guest.first_result", FORK, forked.result)
            yield Reading("guest.walls", FORK, forked.started)
            yield Reading("guest.walls_unprepared", OURS, ours.wait(_unprepared(ours, number)))
            yield Reading("guest.walls_unprepared", FORK, forker.fork("pass").started)
            if bwrap and number % 3 == 0:
                yield Reading("guest.first_result", BWRAP, peers.bwrap("pass"))
                yield Reading("guest.first_result", BWRAP_PANDAS, peers.bwrap("import pandas"))


async def _session(ours: Stand) -> list[Reading]:
    """The whole way, as a front goes it."""
    begun = time.perf_counter()
    session = ours.session()
    await run(session, CODE)
    result = time.perf_counter()
    await session.restart()
    await run(session, "1+1")
    restarted = time.perf_counter()
    await session.close()
    await asyncio.sleep(0.02)
    return [
        Reading("guest.first_result", OURS, result - begun),
        Reading("guest.restart", OURS, restarted - result),
    ]


async def _steps(ours: Stand) -> list[Reading]:
    """The zygote's part alone; the branch only when pid 1 has had time to prepare."""
    one = Guest(ours, ours.plan())
    await one.be_born()
    await asyncio.sleep(0.3)
    await one.fork()
    one.end()
    await asyncio.sleep(0.02)
    return [
        Reading("guest.walls", OURS, one.since("born")),
        Reading("guest.branch", OURS, one.since("ready", "asked")),
    ]


async def _unprepared(ours: Stand, number: int) -> float:
    """A plan that was never asked for: the zygote has begun no process for it."""
    plan = ours.plan()
    one = Guest(ours, msgspec.structs.replace(plan, inodes=plan.inodes - number - 1))
    await one.be_born()
    one.end()
    await asyncio.sleep(0.02)
    return one.since("born")


@benchmark(
    "guest_memory",
    Spec(name="guest.private", what="private memory of an idle guest (pid 1 and live branch)", unit="B"),
    Spec(name="guest.copy", what="private memory of a frozen copy, right after it was made", unit="B"),
)
def guest_memory(scale: Scale) -> Iterator[Reading]:
    """Several guests at once, so that what only they share counts for nobody; the peer: a plain fork that runs the same
    cell in the same shell, which the process has run before."""
    count = max(2, scale.rounds)
    with stand() as ours, peers.forker(PRELOAD) as forker:
        forker.prepare(f"{_SHELL}\nfor _ in range(10): {_CELL}")
        for value in ours.wait(_private(ours, count)):
            yield Reading("guest.private", OURS, value)
            with forker.held(_CELL) as pids:
                yield Reading("guest.private", FORK, private(pids))
        for value in ours.wait(_copies(ours, count)):
            yield Reading("guest.copy", OURS, value)
            yield Reading("guest.copy", FORK, floor.private(PRELOAD))


async def _private(ours: Stand, count: int) -> list[int]:
    guests = [Guest(ours, ours.plan()) for _ in range(count)]
    for one in guests:
        await one.be_born()
        await one.fork()
        await one.run("1+1")
    await asyncio.sleep(0.2)
    found = [private(tree(one.pid)) for one in guests]
    for one in guests:
        one.end()
    return found


async def _copies(ours: Stand, count: int) -> list[int]:
    """Each of a session that rests; what this writes to until it rests again is in the copy alone, too."""
    session = ours.session(automatic=False)
    found = []
    for _ in range(count):
        await run(session, "1+1")
        await asyncio.sleep(0.2)
        snapshot = await session.snapshots.take()
        (pid,) = session.snapshots.kept.source(snapshot).pids
        found += [private([one]) for one in tree(session.pid) if pid_within(one) == pid]
    await session.close()
    return found

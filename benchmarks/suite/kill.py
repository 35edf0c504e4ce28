"""How soon a guest is gone when it must go, and how soon the next cell works."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.bars import FORK
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.guests import Guest, Stand, run, stand
from benchmarks.processes import Watch, tree
from benchmarks.registry import benchmark
from kernel_runtime.runtime import PRELOAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

_CHILDREN = """
import subprocess
children = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(5)]
"""
#: Forks of a Python that hold four megabytes each, as a pool of workers does.
_MANY = """
import os, time
ready = os.pipe()
for _ in range(30):
    if os.fork() == 0:
        os.setsid(); kept = b"x" * 2**22; os.write(ready[1], b"x"); time.sleep(60); os._exit(0)
come = 0
while come < 30: come += len(os.read(ready[0], 30))
"""


@benchmark(
    "kill",
    Spec(name="kill.tree", what="kill at a limit → all 6 processes of the branch gone"),
    Spec(name="kill.large_tree", what="the same with 30 children → all 31 gone"),
    Spec(name="kill.session", what="kill of a whole session → every process gone"),
    Spec(name="kill.recovery", what="a cell that kills its process → result of the next cell"),
)
def kill(scale: Scale) -> Iterator[Reading]:
    """A branch with five children in sessions of their own; the peer of the large tree: an equal one without any walls."""
    with stand() as ours, peers.forker(PRELOAD) as forker:
        for _ in range(scale.rounds):
            yield Reading("kill.tree", OURS, ours.wait(_tree(ours)))
            yield Reading("kill.large_tree", OURS, ours.wait(_tree(ours, _MANY, 31)))
            yield Reading("kill.large_tree", FORK, _plain(forker))
            yield Reading("kill.session", OURS, ours.wait(_whole(ours)))
            yield Reading("kill.recovery", OURS, ours.wait(_recovery(ours)))


async def _with_children(ours: Stand, code: str = _CHILDREN) -> Guest:
    one = Guest(ours, ours.plan())
    await one.be_born()
    await one.fork()
    await one.run(code)
    return one


async def _tree(ours: Stand, code: str = _CHILDREN, size: int = 6) -> float:
    one = await _with_children(ours, code)
    branch = [pid for pid in tree(one.pid) if pid != one.pid]
    assert len(branch) == size, branch
    watch = Watch(branch)
    begun = time.perf_counter()
    one.end_branches()
    seconds = watch.gone() - begun
    one.end()
    return seconds


def _plain(forker: peers.Forker) -> float:
    with forker.held(_MANY) as pids:
        assert len(pids) == 31, pids
        watch = Watch(pids)
        begun = time.perf_counter()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return watch.gone() - begun


async def _whole(ours: Stand) -> float:
    one = await _with_children(ours)
    watch = Watch(tree(one.pid))
    begun = time.perf_counter()
    one.end()
    return watch.gone() - begun


async def _recovery(ours: Stand) -> float:
    session = ours.session()
    await run(session, "1+1")
    await asyncio.sleep(0.3)
    begun = time.perf_counter()
    await run(session, "import os; os.kill(os.getpid(), 9)")
    await run(session, "1+1")
    seconds = time.perf_counter() - begun
    await session.close()
    return seconds

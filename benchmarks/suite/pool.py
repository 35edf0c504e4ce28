"""A ready guest, handed out by a runtime as programs use it, beside a plain fork."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from benchmarks import peers
from benchmarks.bars import FORK
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.guests import run
from benchmarks.processes import private, tree
from benchmarks.registry import benchmark
from benchmarks.suite.guest import CODE
from kernel_runtime.runtime import PRELOAD, Runtime, default_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale


@benchmark(
    "pool",
    Spec(name="pool.handout", what="session asked for → a ready guest of the pool is there"),
    Spec(name="pool.first_result", what="session asked for → first pandas result, from the pool"),
    Spec(name="pool.memory", what="private memory of a guest that waits in the pool", unit="B"),
)
def pool(scale: Scale) -> Iterator[Reading]:
    """The pool is full each time: what making up for a guest takes is the benchmark ``guest``."""
    with asyncio.Runner() as runner, peers.forker(PRELOAD) as forker:
        runtime = runner.run(_warmed())
        try:
            for _ in range(scale.rounds * 3):
                yield from runner.run(_taken(runtime))
                forked = forker.fork(f"{CODE}; print(repr(pandas.DataFrame({{'a': [1, 2, 3]}})))")
                yield Reading("pool.first_result", FORK, forked.result)
        finally:
            runner.run(runtime.close())


async def _warmed() -> Runtime:
    """A runtime whose warm zygote stands, asked often enough to keep a guest ready."""
    runtime = Runtime(msgspec.structs.replace(default_settings(), ready=1))
    for _ in range(2):
        session = runtime.open_session()
        await session.ready()
        runtime.warm_up()
        if runtime._warming is not None:
            await runtime._warming
        await runtime.close_session(session)
    return runtime


async def _taken(runtime: Runtime) -> list[Reading]:
    while not runtime._pool.waiting:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    [waiting] = runtime._pool.waiting
    size = private(tree(waiting.pid))
    begun = time.perf_counter()
    session = runtime.open_session()
    await session.ready()
    handed = time.perf_counter()
    await run(session, CODE)
    result = time.perf_counter()
    if session is not waiting:
        raise RuntimeError("the guest that waited was not handed out")
    await runtime.close_session(session)
    return [
        Reading("pool.handout", OURS, handed - begun),
        Reading("pool.first_result", OURS, result - begun),
        Reading("pool.memory", OURS, size),
    ]

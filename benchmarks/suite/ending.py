"""Interrupt, restart and shutdown of a kernel, as a server asks for them."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from benchmarks.figures import Reading, Spec
from benchmarks.kernels import SUBJECTS, house, kernel
from benchmarks.processes import Watch
from benchmarks.registry import benchmark
from benchmarks.turns import turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.kernels import Kernel
    from benchmarks.scale import Scale


@benchmark(
    "ending",
    Spec(name="ending.interrupt", what="interrupt of a busy cell → its reply"),
    Spec(name="ending.restart", what="restart through jupyter_client → next result"),
    Spec(name="ending.shutdown", what="shutdown request → no process left"),
)
def ending(scale: Scale) -> Iterator[Reading]:
    """A kernel is interrupted, restarted after some work, then asked to shut down."""
    with house():
        for subject in turns(scale.rounds, SUBJECTS):
            with kernel(subject) as one:
                one.ready()
                one.run("x = 1")
                yield Reading("ending.interrupt", subject, _interrupt(one))
                begun = time.perf_counter()
                one.manager.restart_kernel(now=False)
                one.reply(one.client.execute("1+1"))
                yield Reading("ending.restart", subject, time.perf_counter() - begun)
                watch = Watch(one.pids)
                begun = time.perf_counter()
                one.client.shutdown()
                yield Reading("ending.shutdown", subject, watch.gone() - begun)


def _interrupt(one: Kernel) -> float:
    asked = one.client.execute("print('on')\nwhile True: pass")
    next(message for message in one.stream(asked) if message["msg_type"] == "stream")
    begun = time.perf_counter()
    one.manager.interrupt_kernel()
    with contextlib.suppress(RuntimeError):  # KeyboardInterrupt, as it should be
        one.reply(asked)
    return time.perf_counter() - begun

"""How soon a kernel answers after its start."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.figures import Reading, Spec
from benchmarks.kernels import SUBJECTS, house, kernel
from benchmarks.registry import benchmark
from benchmarks.turns import turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

PANDAS = "import pandas; pandas.DataFrame({'a': [1, 2, 3]})"


@benchmark(
    "start",
    Spec(name="start.kernel_info", what="start → kernel_info reply"),
    Spec(name="start.first_result", what="start → reply to a first `1+1`"),
)
def start(scale: Scale) -> Iterator[Reading]:
    """One kernel per reading: kernel_info is asked for at once, then `1+1` is run."""
    with house():
        for subject in turns(scale.rounds, SUBJECTS):
            with kernel(subject) as started:
                started.info()
                yield Reading("start.kernel_info", subject, time.perf_counter() - started.begun)
                started.reply(started.client.execute("1+1"))
                yield Reading("start.first_result", subject, time.perf_counter() - started.begun)


@benchmark(
    "start_pandas",
    Spec(name="start.pandas_at_once", what="start → reply to a first cell with pandas"),
    Spec(name="start.pandas_after_idle", what="that first cell alone, in a kernel left idle before"),
)
def start_pandas(scale: Scale) -> Iterator[Reading]:
    """A first cell that imports pandas: right after the start, and in a kernel that has had time."""
    with house():
        for subject in turns(scale.rounds, SUBJECTS):
            with kernel(subject) as started:
                started.reply(started.client.execute(PANDAS))
                yield Reading("start.pandas_at_once", subject, time.perf_counter() - started.begun)
            with kernel(subject) as started:
                started.info()
                time.sleep(scale.idle)
                begun = time.perf_counter()
                started.reply(started.client.execute(PANDAS))
                yield Reading("start.pandas_after_idle", subject, time.perf_counter() - begun)

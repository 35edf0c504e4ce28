"""Memory of the whole process tree of a kernel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.figures import Reading, Spec
from benchmarks.kernels import SUBJECTS, house, kernel
from benchmarks.processes import pss
from benchmarks.registry import benchmark
from benchmarks.turns import turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale


@benchmark(
    "memory",
    Spec(name="memory.started", what="PSS of the process tree, just started", unit="B"),
    Spec(name="memory.idle", what="PSS of the process tree, idle", unit="B"),
    Spec(name="memory.pandas", what="PSS of the process tree, pandas imported", unit="B"),
)
def memory(scale: Scale) -> Iterator[Reading]:
    """Zygotes included. ``idle``: after the warm one stands."""
    with house():
        for subject in turns(min(scale.rounds, 3), SUBJECTS):
            with kernel(subject) as one:
                one.ready()
                yield Reading("memory.started", subject, pss(one.pids))
                time.sleep(scale.idle)
                yield Reading("memory.idle", subject, pss(one.pids))
                one.run("import pandas")
                yield Reading("memory.pandas", subject, pss(one.pids))

"""A whole notebook, run headless as users run it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import nbformat.v4
from nbclient import NotebookClient

from benchmarks.figures import Reading, Spec
from benchmarks.kernels import SUBJECTS, house
from benchmarks.registry import benchmark
from benchmarks.turns import turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale


@benchmark(
    "notebook", Spec(name="notebook.nbclient", what="a 50-cell notebook through nbclient, start to end")
)
def notebook(scale: Scale) -> Iterator[Reading]:
    """Kernel start and shutdown included."""
    with house():
        for subject in turns(scale.rounds, SUBJECTS):
            cells = [nbformat.v4.new_code_cell(f"x = {number}\nx + 1") for number in range(scale.notebook)]
            client = NotebookClient(nbformat.v4.new_notebook(cells=cells), kernel_name=subject, timeout=60)
            begun = time.perf_counter()
            client.execute()
            yield Reading("notebook.nbclient", subject, time.perf_counter() - begun)

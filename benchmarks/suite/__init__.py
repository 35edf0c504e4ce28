"""The benchmarks, one file each; importing this package registers them all, in this order."""

from benchmarks.suite import start, cells, output, notebook, memory, ending  # noqa: F401, I001
from benchmarks.suite import guest, walls, rate, growth, compute, kill, branching  # noqa: F401

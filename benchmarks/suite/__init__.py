"""The benchmarks, one file each; importing this package registers them all, in this order."""

from benchmarks.suite import start, cells, output, notebook, memory, ending, guest, rate, compute, kill  # noqa: F401, I001

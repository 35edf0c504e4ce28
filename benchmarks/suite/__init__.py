"""The benchmarks, one file each; importing this package registers them all, in this order."""

from benchmarks.suite import start, cells, output, notebook, memory, ending, interrupt  # noqa: F401, I001 — in this order they register themselves
from benchmarks.suite import guest, pool, walls, rate, growth, compute, kill  # noqa: F401 — they register themselves
from benchmarks.suite import branching, kinds, fifty, durable, durable_pause  # noqa: F401 — they register themselves
from benchmarks.suite import decide, audit, broker, calls, redaction, egress, crowd, panels  # noqa: F401 — they register themselves

"""The kernel, with a stand-in for what compares two snapshots. Run it as a file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from kernel_runtime.jupyter.cells import Cells
from kernel_runtime.jupyter.kernel import main
from kernel_runtime.jupyter.panels.differences import Difference

if TYPE_CHECKING:
    from kernel_runtime.domain.snapshot import Snapshot


async def diff(first: Snapshot, second: Snapshot) -> list[Difference]:
    """Always the same."""
    return [
        Difference(name="data", change="changed", before="list of 3", after="list of 4, [3] is 4"),
        Difference(
            name="extra", change="added", after="str <b>not bold</b><img src=x onerror='window.hacked=1'>"
        ),
        Difference(name="scratch", change="removed", before="ndarray float64 (1000, 1000), 7.63 MB"),
    ]


if __name__ == "__main__":
    Cells.diff = staticmethod(diff)
    sys.exit(main())

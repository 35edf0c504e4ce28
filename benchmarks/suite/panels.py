"""What open panels cost the kernel while a cell runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bars import CONTROL
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.kernels import Kernel, house, kernel
from benchmarks.registry import benchmark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

PANELS = ("%snapshots", "%resources", "%permissions", "%logs")
QUIET = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
TALKING = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: print('a line'); time.sleep(0.01)"


@benchmark(
    "panels",
    Spec(name="panels.quiet", what="CPU time of the front a second, four panels open, a silent busy cell"),
    Spec(name="panels.talking", what="likewise, a cell that prints 100 lines a second"),
)
def panels(scale: Scale) -> Iterator[Reading]:
    """Two kernels, with all panels open and without any; their fronts' CPU time, one after the other."""
    seconds = scale.idle
    with house() as place:
        os.environ |= {"KERNEL_RUNTIME_STATE": str(place / "state"), "XDG_CONFIG_HOME": str(place / "config")}
        with kernel(OURS) as ours, kernel(OURS) as bare:
            for each in (ours, bare):
                each.ready()
            for magic in PANELS:
                ours.run(magic)
            for _ in range(scale.rounds):
                for figure, code in (("panels.quiet", QUIET), ("panels.talking", TALKING)):
                    for subject, one in ((OURS, ours), (CONTROL, bare)):
                        yield Reading(figure, subject, share(one, code.format(seconds=seconds)))


def share(one: Kernel, code: str) -> float:
    """CPU seconds of the front, for each second that the cell takes."""
    before = front_seconds(one)
    took = one.seconds(code)
    return (front_seconds(one) - before) / took


def front_seconds(one: Kernel) -> float:
    """CPU time of all threads of the kernel's first process."""
    tasks = Path(f"/proc/{one.pids[0]}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

"""Whether code runs slower inside the walls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.bars import OUTSIDE
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.guests import Guest, Stand, stand
from benchmarks.registry import benchmark
from benchmarks.turns import turns
from kernel_runtime.runtime import PRELOAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

_CODE = """
import time, numpy
def work():
    total, seen = 0, {{}}
    for i in range({count}):
        total += i * i % 7
        seen[i % 1000] = total
    return numpy.sort(numpy.arange({count})[::-1] % 1009).sum()
def seconds():
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
print(1 / min(seconds() for _ in range(5)))
"""


_CALLS = {
    "getppid": "os.getppid()",
    "stat": "os.stat('/usr')",
    "open": "os.close(os.open('/etc/passwd', os.O_RDONLY))",
}
_LOOP = """
import os, time
def rate():
    begun = time.perf_counter()
    for _ in range({count}):
        {call}
    return {count} / (time.perf_counter() - begun)
print(max(rate() for _ in range(5)))
"""


@benchmark("compute", Spec(name="compute.loops", what="loops and arrays inside, runs per second", unit="/s"))
def compute(scale: Scale) -> Iterator[Reading]:
    """The same code in a guest and in a plain fork, in turns; the best of five, as others may use the CPUs."""
    code = _CODE.format(count=5_000 * scale.cells)
    with stand() as ours, peers.forker(PRELOAD) as forker:
        for subject in turns(scale.rounds, (OURS, OUTSIDE)):
            rate = ours.wait(_inside(ours, code)) if subject == OURS else float(forker.fork(code).text)
            yield Reading("compute.loops", subject, rate)


@benchmark(
    "syscalls",
    *(
        Spec(name=f"syscall.{name}", what=f"{call} inside, per second", unit="/s")
        for name, call in _CALLS.items()
    ),
)
def syscalls(scale: Scale) -> Iterator[Reading]:
    """What the filter and Landlock add to a call, Python's own share included on both sides."""
    with stand() as ours, peers.forker(PRELOAD) as forker:
        for subject in turns(scale.rounds, (OURS, OUTSIDE)):
            for name, call in _CALLS.items():
                code = _LOOP.format(count=200 * scale.cells, call=call)
                rate = ours.wait(_inside(ours, code)) if subject == OURS else float(forker.fork(code).text)
                yield Reading(f"syscall.{name}", subject, rate)


async def _inside(ours: Stand, code: str) -> float:
    one = Guest(ours, ours.plan())
    await one.be_born()
    await one.fork()
    text = await one.run(code)
    one.end()
    return float(text)

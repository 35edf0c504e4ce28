"""The floor of every pause: nothing but the fork, of a fresh interpreter that holds the same state."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.states import MIX

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The first one, and another after some of the arrays were written, with the copies there and the process at rest before.
_FORK = """
import gc, os, signal, sys, time
exec(MIX)
state = make(int(sys.argv[1]), sys.argv[2]); gc.collect(); gc.freeze()
def forked():
    time.sleep(0.3); begun = time.perf_counter(); child = os.fork()
    if child == 0: signal.pause()
    children.append(child)
    return time.perf_counter() - begun
children = []
first = forked(); touch(state, float(sys.argv[3])); print(first, forked())
for child in children: os.kill(child, signal.SIGKILL)
"""

#: What a child has for itself that does nothing at all.
_PRIVATE = """
import gc, importlib, os, signal, sys, time
for name in sys.argv[1:]: importlib.import_module(name)
gc.collect(); gc.freeze(); child = os.fork()
if child == 0: signal.pause()
time.sleep(0.2)
with open(f"/proc/{child}/smaps_rollup") as file:
    print(sum(1024 * int(line.split()[1]) for line in file if line.startswith("Private_")))
os.kill(child, signal.SIGKILL)
"""


def forks(size: int, *, kind: str = "mix", share: float = 0.0) -> list[float]:
    """Seconds of the first fork, and of another after this share of the arrays was written. The process has collected
    its garbage."""
    return printed(_FORK, size, kind, share)


def private(modules: Iterable[str]) -> float:
    """Bytes that a child has for itself which waits from its first moment, of a process that has imported these."""
    return printed(_PRIVATE, *modules)[0]


def printed(program: str, *arguments: object) -> list[float]:
    """The numbers that a fresh interpreter prints, in which ``MIX`` is the program of the states."""
    command = [sys.executable, "-c", program.replace("MIX", repr(MIX)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return [float(word) for word in done.stdout.split()]

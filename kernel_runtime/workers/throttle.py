"""A share of CPU time without control groups: the session's processes are stopped for moments.

Not exact: what a process does between two looks is seen afterwards and paid back by a longer
pause. Pid 1 is never stopped, so that it can be told to end the others.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel_runtime.workers.meter import Meter

_TICK = 0.05
_IDLE_TICK = 0.2
#: Share saved up while idle: this many seconds of it may be used at once.
_SAVED = 0.1
#: A pause is made of pieces, so that what was forked just before it is stopped, too.
_PIECE = 0.02


async def hold_share(meter: Meter) -> None:
    """Keep the session below its share where the kernel does not; until cancelled."""
    share = meter.share
    if share is None or meter.throttles:
        return
    debt, then, before, tick = 0.0, time.monotonic(), meter.look().cpu, _TICK
    while True:
        await asyncio.sleep(tick)
        now, cpu = time.monotonic(), meter.look().cpu
        used = max(0.0, cpu - before)
        debt = max(-_SAVED * share, debt + used - share * (now - then))
        then, before = now, cpu
        tick = min(_IDLE_TICK, 1.2 * tick) if used == 0 else _TICK
        if debt > 0:
            await _pause(meter, debt / share)


async def _pause(meter: Meter, seconds: float) -> None:
    """Stop every process but pid 1 for so long; what was stopped before stays so afterwards."""
    end = time.monotonic() + seconds
    stopped: set[int] = set()
    try:
        while (left := end - time.monotonic()) > 0:
            for process in meter.processes.look()[1:]:
                if process.state not in "TtZX" and process.pid not in stopped:
                    meter.processes.send(process.pid, signal.SIGSTOP)
                    stopped.add(process.pid)
            await asyncio.sleep(min(_PIECE, left))
    finally:
        for pid in stopped:
            meter.processes.send(pid, signal.SIGCONT)

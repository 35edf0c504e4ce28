"""Memory is short: snapshots are given up before the session's limit ends a cell.

Only what snapshots hold beside the processes that run comes back when they go: where that is
little, as with a cell that allocates without end, they stay, and the state before it with them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import GIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.workers.meter import Look, Meter
    from kernel_runtime.workers.snapshots import Snapshots

#: Shares of the limit: from here on snapshots are given up, and from here on the last one, too.
SHORT, LAST = 0.8, 0.9
#: What must come back for it to be worth a snapshot.
_WORTH = 0.04
#: No guest fills memory faster, in bytes a second; and no look sooner than this.
_FASTEST, _TICK = 2 * GIB, 0.01


class Pressure:
    """The memory of one session, against what its snapshots hold."""

    def __init__(self, meter: Meter, snapshots: Snapshots) -> None:
        self._meter = meter
        self._snapshots = snapshots
        self._limit = meter.limits.memory
        self._used = 0

    def pause(self) -> float:
        """Seconds within which memory cannot become short; for ever where nothing can be given up."""
        if self._limit is None or not self._snapshots.expendable():
            return math.inf
        room = SHORT * self._limit - self._used
        return max(_TICK, room / _FASTEST) if room > 0 else 2 * _TICK

    def relieve(self, look: Look, tell: Callable[[str], None] = lambda _: None) -> bool:
        """Give up what helps; whether anything was given up."""
        self._used = look.memory
        if self._limit is None or look.memory < SHORT * self._limit:
            return False
        expendable = self._snapshots.expendable()
        if not expendable or self._held_beside(look) < _WORTH * self._limit:
            return False
        chosen = expendable[: max(1, (len(expendable) - 1) // 2)]
        if len(expendable) == 1 and look.memory < LAST * self._limit:
            return False
        self._snapshots.give_up(chosen)
        told = [s.title for s in chosen if not s.automatic or len(expendable) == 1]
        if told:
            tell(f"memory was short: the snapshot {', '.join(told)} was dropped")
        return True

    def _held_beside(self, look: Look) -> int:
        """Bytes that no process holds but frozen ones, at least."""
        frozen = self._snapshots.pids
        running = sum(p.resident for p in self._meter.processes.look() if p.pid not in frozen)
        return self._meter.kept_memory(look) - running - self._meter.in_layer()

"""Memory is short: snapshots are given up before the session's limit ends a cell, their spares before them.

Only what snapshots hold beside the processes that run comes back when they go: where that is
little, as with a cell that allocates without end, they stay, and the state before it with them.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import GIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.workers.meter import Look, Meter
    from kernel_runtime.workers.snapshots import Snapshots

#: Shares of the limit: from here on snapshots are given up, and from here on the last one, too.
SHORT, LAST = 0.8, 0.9
#: What must come back, as a share of the limit, for it to be worth some snapshots; the last one.
_WORTH, _WORTH_LAST = 0.05, 0.15
#: So far above the limit, snapshots may be what is too much.
_LITTLE = 1.15
#: Seconds that what was given up may take to go.
_GOING = 1.0
#: No guest fills memory faster, in bytes a second; and no look sooner than this.
_FASTEST, _TICK = 2 * GIB, 0.01


class Pressure:
    """The memory of one session, against what its snapshots hold."""

    def __init__(self, meter: Meter, snapshots: Snapshots) -> None:
        self._meter = meter
        self._snapshots = snapshots
        self._limit = meter.limits.memory
        self._used = 0
        self._gave_up = -math.inf
        self._going: set[int] = set()

    def pause(self) -> float:
        """Seconds within which memory cannot become short; for ever where nothing can be given up."""
        if self._limit is None or not (self._snapshots.expendable() or self._snapshots.has_spares):
            return math.inf
        room = SHORT * self._limit - self._used
        return max(_TICK, room / _FASTEST) if room > 0 else 2 * _TICK

    def relieve(self, look: Look, tell: Callable[[str], None] | None = None) -> bool:
        """Give up what helps; whether anything was given up. What a person made is told at once, or with the next cell."""
        self._used = look.memory
        if self._limit is None or look.memory < SHORT * self._limit:
            return False
        if self._snapshots.has_spares:
            self._let_go(self._snapshots.drop_spares)
            return True
        expendable, held = self._snapshots.expendable(), self._held_beside(look)
        if len(expendable) > 1 and held >= _WORTH * self._limit:
            self._give_up(expendable[: len(expendable) // 2], tell)
        elif len(expendable) == 1 and held >= _WORTH_LAST * self._limit and look.memory >= LAST * self._limit:
            self._give_up(expendable, tell, last=True)
        else:
            return False
        return True

    def spare_the_cell(self, used: float) -> bool:
        """The host is about to end a cell for ``used`` bytes: where it is only a little too much without the
        snapshots, all of them go instead. Whether there were any, or some that are still on their way out."""
        if self._limit is None or used - self._counted_for_snapshots() > _LITTLE * self._limit:
            return False
        expendable = self._snapshots.expendable()
        if expendable:
            self._give_up(expendable, last=True)
        return self._some_are_going()

    @property
    def copies(self) -> set[int]:
        """Processes that are snapshots, or were until just now."""
        return self._snapshots.pids | (self._going if self._some_are_going() else set())

    def _some_are_going(self) -> bool:
        return time.monotonic() - self._gave_up < _GOING

    def _counted_for_snapshots(self) -> int:
        """Bytes of a sum that are counted for them: whole copies, where their pages may not be looked at."""
        processes, copies = self._meter.processes, self.copies
        return processes.shared_out([p for p in processes.look() if p.pid in copies])

    def _give_up(
        self, chosen: list[Snapshot], tell: Callable[[str], None] | None = None, *, last: bool = False
    ) -> None:
        self._let_go(lambda: self._snapshots.give_up(chosen))
        told = ", ".join(snapshot.title for snapshot in chosen if last or not snapshot.automatic)
        if told:
            tell = tell or self._snapshots.tell_later
            tell(f"memory was short: dropped the snapshot{'s' if ',' in told else ''} {told}")

    def _let_go(self, what: Callable[[], object]) -> None:
        before = self._snapshots.pids
        what()
        self._going = (self._going if self._some_are_going() else set()) | before - self._snapshots.pids
        self._gave_up = time.monotonic()

    def _held_beside(self, look: Look) -> int:
        """Bytes that no process holds but frozen ones, at least; 0 while others are on their way out:
        what they hold still is theirs."""
        frozen = self._snapshots.pids
        running = [p.resident for p in self._meter.processes.look() if p.pid not in frozen]
        if not any(running[1:]) or self._meter.out_of_memory() is not None:
            return 0
        return self._meter.kept_memory(look) - sum(running) - self._meter.in_layer()

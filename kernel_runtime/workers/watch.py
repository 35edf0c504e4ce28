"""Hold the limits that the kernel does not hold by itself, and warn before any is reached.

A cell is looked at while it runs, never sooner than ``_LOOK`` after its start: most cells are
over by then. An idle session is looked at only where its memory is summed up by the host.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, NoReturn

from kernel_runtime.domain.usage import NEARLY, Nearly, nearly
from kernel_runtime.domain.verdict import Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.workers.meter import Look, Meter
    from kernel_runtime.workers.pressure import Pressure

_LOOK = 0.25
#: A cell that goes on for long is looked at less often.
_LONG_LOOK = 0.5
_TICK = 0.05
#: An idle session's ticks grow to this: it must wake up before it can use memory.
_IDLE_TICK = 0.1
_CORES = os.cpu_count() or 1


class Watch:
    """One cell under watch. ``warn`` is told of each limit once, ``note`` in plain words of what
    the kernel did to a process of the cell.
    """

    def __init__(
        self,
        meter: Meter,
        warn: Callable[[Nearly], None],
        note: Callable[[str], None],
        pressure: Pressure | None = None,
    ) -> None:
        self._meter = meter
        self._pressure = pressure
        self._limits = meter.limits
        self._warn = warn
        self._note = note
        self._warned: set[str] = set()
        self._begun, cpu = meter.cell
        self._cpu_begun = cpu or 0.0
        self._cpu_left = self._limits.cpu
        self._look = _LOOK
        self._files_due = 0.0

    async def exceeded(self) -> Verdict:
        """Wait until the cell reaches its CPU or wall limit; else for ever."""
        while True:
            await asyncio.sleep(self._pause())
            verdict = self._wall_exceeded()
            if verdict is not None:
                return verdict
            look = self._meter.look()
            verdict = self._cpu_exceeded(look.cpu)
            if verdict is not None:
                return verdict
            if self._pressure is not None and self._pressure.relieve(look, self._note):
                continue
            await self._consider(look)

    def _pause(self) -> float:
        """Until the next look: sooner when a limit may be reached before."""
        pause = self._look
        self._look = min(_LONG_LOOK, 1.1 * self._look)
        if self._limits.wall is not None and not self._meter.held:
            elapsed = self._meter.clock() - self._begun
            due = self._limits.wall * (1 if "wall" in self._warned else NEARLY)
            pause = min(pause, max(0.001, due - elapsed))
        if self._cpu_left is not None:
            pause = min(pause, max(_TICK, self._cpu_left / _CORES))
        return pause if self._pressure is None else min(pause, self._pressure.pause())

    def _wall_exceeded(self) -> Verdict | None:
        wall, elapsed = self._limits.wall, self._meter.clock() - self._begun
        if wall is None:
            return None
        if elapsed >= wall:
            return Verdict(reason=Reason.WALL, limit=wall, used=wall, evidence="the host's clock")
        self._offer("wall", elapsed, wall)
        return None

    def _cpu_exceeded(self, seconds: float) -> Verdict | None:
        limit, cpu = self._limits.cpu, seconds - self._cpu_begun
        if limit is None:
            return None
        if cpu >= limit:
            evidence = "CPU seconds counted outside"
            return Verdict(reason=Reason.CPU, limit=limit, used=cpu, evidence=evidence)
        self._cpu_left = limit - cpu
        self._offer("cpu", cpu, limit)
        return None

    async def _consider(self, look: Look) -> None:
        """Warn of what is nearly used up; tell of a process that the kernel has killed."""
        limits = self._limits
        self._offer("pids", look.pids, limits.pids)
        layer = self._meter.processes.layer()
        if layer is not None:
            self._offer("disk", layer.used, layer.size)
            self._offer("inodes", layer.inodes, limits.inodes)
        account = self._meter.account
        self._offer("session", account.seconds, limits.session)
        self._offer("network", account.network, limits.network)
        if "memory" not in self._warned and nearly("memory", look.memory, limits.memory):
            # Summing up many processes takes a while, and a guest decides how many there are.
            self._offer("memory", await asyncio.to_thread(self._meter.kept_memory, look), limits.memory)
        await self._consider_files()
        killed = look.kills - self._meter.kills_told
        if killed > 0:
            self._meter.kills_told = look.kills
            processes = "1 process" if killed == 1 else f"{killed} processes"
            self._note(f"the kernel killed {processes} of this guest: its memory limit was reached")

    async def _consider_files(self) -> None:
        """Each process is looked at for them, and a guest decides how many there are: never for more than a tenth
        of the time, nor more often than ``_LOOK`` where other limits are looked at in haste."""
        begun, limit = time.monotonic(), self._limits.open_files
        if "open_files" in self._warned or begun < self._files_due:
            return
        processes = self._meter.processes
        copies = self._pressure.copies if self._pressure is not None else set()
        if nearly("open_files", processes.room_for_files(copies), limit):
            self._offer("open_files", await asyncio.to_thread(processes.open_files, copies), limit)
        ended = time.monotonic()
        self._files_due = ended + max(0.9 * _LOOK, 10 * (ended - begun))

    def _offer(self, name: str, used: float, limit: float | None) -> None:
        warning = None if name in self._warned else nearly(name, used, limit)
        if warning is not None:
            self._warned.add(name)
            self._warn(warning)


async def memory_exceeded(meter: Meter) -> Verdict:
    """Where the host sums up the memory itself: wait until it is too much; else for ever."""
    limit = meter.limits.memory
    if meter.counts_memory or limit is None:
        return await _never()
    tick, before = _TICK, (0, 0.0)
    while True:
        await asyncio.sleep(tick)
        looked = time.monotonic()
        look = meter.look()
        if (look.memory, look.cpu) == before:
            tick = min(_IDLE_TICK, 1.2 * tick)
            continue
        tick, before = _TICK, (look.memory, look.cpu)
        if look.memory < 0.95 * limit:
            continue
        used = await _used_at_least(meter, limit)
        if used >= limit:
            return Verdict(reason=Reason.MEMORY, limit=limit, used=used, evidence="PSS of its processes")
        # Summing up a large process takes a while: never spend over a tenth of the time on it.
        tick = max(_TICK, 10 * (time.monotonic() - looked))


async def _used_at_least(meter: Meter, limit: int) -> int:
    """Bytes in use now. Processes are measured one after another: a fork in between counts what both
    have twice, so that only what a second look finds, too, is too much."""
    used = await asyncio.to_thread(meter.memory, meter.look())
    return used if used < limit else min(used, await asyncio.to_thread(meter.memory, meter.look()))


async def session_over(meter: Meter) -> Verdict:
    """Wait until the whole session's time is over; for ever when it has no end."""
    limit = meter.limits.session
    if limit is None:
        return await _never()
    while (left := limit - meter.account.seconds) > 0:  # noqa: ASYNC110 - a clock, no event
        await asyncio.sleep(left)
    return Verdict(
        reason=Reason.WALL,
        amount="session",
        limit=limit,
        used=meter.account.seconds,
        evidence="the host's clock since the session began",
    )


async def _never() -> NoReturn:
    """For ever, until cancelled."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError

"""Measure one session from outside, and notice when a limit is reached.

With control groups the kernel counts and holds memory and processes. Without them the
processes of the session are summed up (PSS, so that pages shared with the zygote count once)
and compared with the limit every ``_TICK``.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from typing import TYPE_CHECKING, NoReturn

import msgspec

from kernel_runtime.domain.verdict import Reason, Verdict
from kernel_runtime.sandbox import cgroups

if TYPE_CHECKING:
    from kernel_runtime.domain.limits import Limits

_TICK = 0.05


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a session uses: ``memory`` and ``peak`` bytes, ``cpu`` seconds since its start,
    ``pids`` processes and threads, ``disk`` bytes written to its layer in memory (None: unknown),
    ``wall`` seconds since its start.
    """

    memory: int = 0
    peak: int = 0
    cpu: float = 0.0
    pids: int = 0
    disk: int | None = None
    wall: float = 0.0


@functools.cache
def world() -> cgroups.World:
    """This host's control groups, found out once; leftovers of dead fronts are removed."""
    found = cgroups.detect()
    cgroups.sweep(found)
    return found


class Meter:
    """The measure of one session, made before its first process; ``close`` when that is gone."""

    def __init__(self, limits: Limits) -> None:
        self._group = cgroups.create(world(), limits)
        self._fds = self._group.procs_fds() if self._group else []
        self.init_pid = 0
        self._begun = time.monotonic()
        self._peak = 0
        self._oom_kills = 0
        self._held_since: float | None = None
        self._held = 0.0

    def join_fds(self) -> list[int]:
        """To be passed to the first process, which joins by them."""
        return self._fds

    def started(self, pidfd: int) -> None:
        """The first process exists."""
        self.init_pid = _pid_of(pidfd)
        self._close_fds()

    def _close_fds(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    @property
    def _counts_memory(self) -> bool:
        return self._group is not None and "memory" in world().limits

    def mark(self) -> None:
        """A live branch begins: out-of-memory kills are counted from here."""
        if self._group is not None:
            self._oom_kills = self._group.usage().oom_kills

    def usage(self) -> Usage:
        """Now; by the control group where there is one, else by the sum of the processes."""
        if self._group is not None and self._counts_memory:
            counted = self._group.usage()
            memory, peak, cpu, pids = counted.memory, counted.peak, counted.cpu, counted.pids
        else:
            memory, cpu, pids = _sum_of_processes(self.init_pid)
            peak = self._peak = max(self._peak, memory)
        return Usage(
            memory=memory,
            peak=peak,
            cpu=cpu,
            pids=pids,
            disk=_disk(self.init_pid),
            wall=time.monotonic() - self._begun,
        )

    def out_of_memory(self, limits: Limits) -> Verdict | None:
        """The verdict, if the kernel has killed for memory since ``mark``."""
        if self._group is None:
            return None
        counted = self._group.usage()
        kills = counted.oom_kills - self._oom_kills
        if kills <= 0:
            return None
        return Verdict(
            reason=Reason.MEMORY,
            limit=limits.memory,
            used=min(counted.peak, limits.memory) if limits.memory else counted.peak,
            evidence=f"the control group counted {kills} out-of-memory kill(s)",
        )

    def hold_wall(self, held: bool) -> None:
        """Stop the clock of the wall limit, or let it go on."""
        if self._held_since is not None:
            self._held += time.monotonic() - self._held_since
        self._held_since = time.monotonic() if held else None

    def _clock(self) -> float:
        """Seconds that count for the wall limit."""
        now = time.monotonic() if self._held_since is None else self._held_since
        return now - self._held

    async def cell_exceeded(self, limits: Limits) -> Verdict:
        """Wait until the cell that starts now reaches its CPU or wall limit; else for ever."""
        begun = self._clock()
        if limits.cpu is None:
            return await self._wall_exceeded(begun, limits.wall)
        cpu_begun = self._cpu()
        while True:
            await asyncio.sleep(_TICK)
            if limits.wall is not None and self._clock() - begun >= limits.wall:
                return _wall_verdict(limits.wall)
            cpu = self._cpu() - cpu_begun
            if cpu >= limits.cpu:
                return Verdict(
                    reason=Reason.CPU, limit=limits.cpu, used=cpu, evidence="CPU seconds counted outside"
                )

    async def _wall_exceeded(self, begun: float, wall: float | None) -> Verdict:
        if wall is None:
            return await _never()
        while (left := begun + wall - self._clock()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left if self._held_since is None else _TICK)  # a clock, no event
        return _wall_verdict(wall)

    async def memory_exceeded(self, limits: Limits) -> Verdict:
        """Without a control group: watch the sum of the processes; else wait for ever."""
        if self._counts_memory or limits.memory is None:
            return await _never()
        tick = _TICK
        while True:
            await asyncio.sleep(tick)
            looked = time.monotonic()
            used, _, _ = _sum_of_processes(self.init_pid)
            if used >= limits.memory:
                return Verdict(
                    reason=Reason.MEMORY, limit=limits.memory, used=used, evidence="PSS of its processes"
                )
            # Summing up a large process takes a while: never spend over a tenth of the time on it.
            tick = max(_TICK, 10 * (time.monotonic() - looked))

    def _cpu(self) -> float:
        return self._group.usage().cpu if self._group is not None else _sum_of_processes(self.init_pid)[1]

    def close(self) -> None:
        """Remove the control group, out of the loop's way: its processes may be leaving still."""
        self._close_fds()
        group, self._group = self._group, None
        if group is not None and not group.remove(patience=0):
            threading.Thread(target=group.remove, name="cgroup-removal").start()


async def _never() -> NoReturn:
    """For ever, until cancelled."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


def _wall_verdict(wall: float) -> Verdict:
    return Verdict(reason=Reason.WALL, limit=wall, used=wall, evidence="the host's clock")


def _pid_of(pidfd: int) -> int:
    """The pid, in our own namespace, of the process behind a pidfd."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    return 0


def _sum_of_processes(root: int) -> tuple[int, float, int]:
    """(PSS bytes, CPU seconds, threads) of a process and all below it; the dead are left out."""
    import psutil

    memory, cpu, threads = 0, 0.0, 0
    try:
        tree = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    except psutil.Error:
        return 0, 0.0, 0
    for process in tree:
        try:
            memory += process.memory_full_info().pss
            times = process.cpu_times()
            cpu += times.user + times.system + times.children_user + times.children_system
            threads += process.num_threads()
        except psutil.Error:
            continue
    return memory, cpu, threads


def _disk(init_pid: int) -> int | None:
    """Bytes in the session's writable layer: its /tmp is a mount that no guest can move."""
    try:
        status = os.statvfs(f"/proc/{init_pid}/root/tmp")
    except OSError:
        return None
    return (status.f_blocks - status.f_bfree) * status.f_frsize

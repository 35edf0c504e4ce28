"""Control groups: the true measure of a guest's memory, processes and CPU time.

Host side only. Where groups can be made, and in which version, is found out in ``hierarchy``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.errors import WallUnavailable
from kernel_runtime.sandbox import cgroup_files
from kernel_runtime.sandbox.hierarchy import Home
from kernel_runtime.sandbox.names import PREFIX, orphaned, unique_name

if TYPE_CHECKING:
    from pathlib import Path

    from kernel_runtime.domain.limits import Limits
    from kernel_runtime.sandbox.hierarchy import World

CPU_PERIOD = 100_000
_SOCKET_BUFFERS = 64 * MIB
#: More cores than any host has; beyond that the kernel refuses the quota.
_MOST_CPUS = 10_000
_LONGEST_PAUSE = 0.1
_SWEEP_SECONDS = 0.5
#: How a group's weight against others is set, by version: the file, what is usual, and the most.
_WEIGHTS = {1: ("cpu.shares", "1024", "262144"), 2: ("cpu.weight", "100", "10000")}
_FILE_PAGES = ("inactive_file", "active_file")


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a group used: bytes, CPU seconds, counts; 0 where the host does not count it."""

    memory: int
    peak: int
    cpu: float
    pids: int
    oom_kills: int
    pids_denied: int


class Group:
    """One guest's control group (in version 1 a directory in each tree)."""

    def __init__(self, name: str, homes: dict[str, Home]) -> None:
        self.name = name
        self._places = {
            controller: Home(home.directory / name, home.version) for controller, home in homes.items()
        }

    @property
    def directories(self) -> list[Path]:
        """Each directory once: controllers mounted together share theirs."""
        return list(dict.fromkeys(place.directory for place in self._places.values()))

    def procs_fds(self) -> list[int]:
        """Descriptors for the guest-to-be, which enters by writing ``b"0"`` to each.

        The kernel judges the writer by who opened them; close them afterwards. In version 1 the
        writer enters as a thread, its only one: that takes 0.03 ms, as a process 10 ms.
        """
        places = {place.directory: place.version for place in self._places.values()}
        names = {1: "tasks", 2: "cgroup.procs"}
        return [os.open(d / names[v], os.O_WRONLY | os.O_CLOEXEC) for d, v in places.items()]

    def limit(self, limits: Limits, cpus: float | None = None) -> None:
        """Set the memory, process and CPU limits (``cpus``: cores' worth of time, if not the limits')."""
        cpus = limits.cpus if cpus is None else cpus
        if limits.memory is not None:
            self._limit_memory(limits.memory)
        if limits.pids is not None:
            self.limit_pids(limits.pids)
        if cpus is not None:
            self.limit_cpu(cpus)

    def limit_pids(self, amount: int) -> None:
        """Set how many processes and threads there may be."""
        if place := self._places.get("pids"):
            cgroup_files.write(place.directory / "pids.max", str(amount))

    def limit_cpu(self, cpus: float | None) -> None:
        """Set the CPU share; None lifts it, for a group that is to end."""
        if place := self._places.get("cpu"):
            quota = None if cpus is None else int(min(cpus, _MOST_CPUS) * CPU_PERIOD)
            _limit_cpu(place, quota)

    def hurry(self, hurried: bool) -> None:
        """Give its processes the processors before others (they are to end), or their usual turn."""
        if place := self._places.get("cpu"):
            name, usual, most = _WEIGHTS[place.version]
            with contextlib.suppress(OSError):  # a courtesy: it ends without, only later
                cgroup_files.write(place.directory / name, most if hurried else usual)

    def _limit_memory(self, amount: int) -> None:
        place = self._places.get("memory")
        if place is None:
            return
        if place.version == 2:
            cgroup_files.write(place.directory / "memory.max", str(amount))
            # Not memory.oom.group: pid 1 must survive its live branch.
            extras = {"memory.swap.max": "0"}
        else:
            cgroup_files.write(place.directory / "memory.limit_in_bytes", str(amount))
            # Version 1 counts the buffers of sockets apart, and only once they are limited.
            buffers = str(min(amount, _SOCKET_BUFFERS))
            extras = {"memory.memsw.limit_in_bytes": str(amount), "memory.kmem.tcp.limit_in_bytes": buffers}
        for name, text in extras.items():
            # Kernels without swap accounting lack the file, and then there is nothing to limit.
            with contextlib.suppress(FileNotFoundError):
                cgroup_files.write(place.directory / name, text)

    def usage(self) -> Usage:
        """What the group uses and used up to now."""
        memory, peak, oom_kills = self._memory()
        pids = self._places.get("pids")
        return Usage(
            memory=memory,
            peak=peak,
            cpu=self._cpu(),
            pids=cgroup_files.number(pids.directory / "pids.current") if pids else 0,
            oom_kills=oom_kills,
            pids_denied=cgroup_files.field(pids.directory / "pids.events", "max") if pids else 0,
        )

    def _memory(self) -> tuple[int, int, int]:
        place = self._places.get("memory")
        if place is None:
            return 0, 0, 0
        at = place.directory
        if place.version == 1:
            now, peak = (
                cgroup_files.number(at / "memory.usage_in_bytes"),
                cgroup_files.number(at / "memory.max_usage_in_bytes"),
            )
            return now, peak, cgroup_files.field(at / "memory.oom_control", "oom_kill")
        now = cgroup_files.number(at / "memory.current")
        return (
            now,
            cgroup_files.number(at / "memory.peak") or now,
            cgroup_files.field(at / "memory.events", "oom_kill"),
        )

    def memory_now(self) -> int:
        """Bytes of memory that it uses, copies of files too."""
        place = self._places.get("memory")
        if place is None:
            return 0
        name = "memory.usage_in_bytes" if place.version == 1 else "memory.current"
        return cgroup_files.number(place.directory / name)

    def _cpu(self) -> float:
        accounting = self._places.get("cpuacct")
        if accounting:
            return cgroup_files.number(accounting.directory / "cpuacct.usage") / 1e9
        unified = next((place for place in self._places.values() if place.version == 2), None)
        return cgroup_files.field(unified.directory / "cpu.stat", "usage_usec") / 1e6 if unified else 0.0

    def file_pages(self) -> int:
        """Bytes of its memory that are copies of files, which the kernel takes back when it needs to."""
        place = self._places.get("memory")
        if place is None:
            return 0
        names = ("total_inactive_file", "total_active_file") if place.version == 1 else _FILE_PAGES
        return sum(cgroup_files.field(place.directory / "memory.stat", name) for name in names)

    def reclaim(self) -> int:
        """Have the kernel take back what memory it can (copies of files, and what it can swap out);
        bytes given back."""
        place = self._places.get("memory")
        if place is None:
            return 0
        before = self._memory()[0]
        name, amount = ("memory.force_empty", 0) if place.version == 1 else ("memory.reclaim", before)
        with contextlib.suppress(OSError):  # it takes what it can, and says EAGAIN or EBUSY for the rest
            cgroup_files.write(place.directory / name, str(amount))
        return max(0, before - self._memory()[0])

    def kill(self) -> None:
        """End every process in the group, at once where the kernel can (``cgroup.kill``)."""
        place = self._places.get("kill")
        if place:
            with contextlib.suppress(FileNotFoundError):
                cgroup_files.write(place.directory / "cgroup.kill", "1")
        for _ in range(100):
            if not (pids := self.pids()):
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)

    def pids(self) -> list[int]:
        """The processes in the group that this process can see."""
        lists = (cgroup_files.read(directory / "cgroup.procs").split() for directory in self.directories)
        return sorted({int(pid) for pids in lists for pid in pids} - {0})

    def remove(self, patience: float = 1.0) -> bool:
        """Remove the empty group; while processes are still leaving, try for ``patience`` seconds."""
        deadline, pause = time.monotonic() + patience, 0.002
        while left := [d for d in self.directories if not cgroup_files.removed(d)]:
            if time.monotonic() >= deadline:
                return not left
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return True


def create(world: World, limits: Limits, *, cpus: float | None = None, name: str = "") -> Group | None:
    """A new group with its limits set; None when this host has no writable control groups."""
    if not world.homes:
        return None
    group = Group(name or unique_name(), world.homes)
    try:
        for directory in group.directories:
            cgroup_files.make(directory)
        group.limit(limits, cpus)
    except OSError as error:
        group.remove(patience=0)
        fix = "Let this user write to its control group (systemd: Delegate=yes)"
        raise WallUnavailable("cgroup", str(error), fix) from error
    return group


def sweep(world: World) -> list[str]:
    """End and remove the groups of fronts of this pid namespace that are no more; their names.

    A front does it while it starts: what does not go in a moment is left to the next one.
    """
    deadline = time.monotonic() + _SWEEP_SECONDS
    names = {entry.name for home in world.homes.values() for entry in home.directory.glob(f"{PREFIX}-*")}
    swept = [name for name in names if orphaned(name)]
    for name in swept:
        group = Group(name, world.homes)
        with contextlib.suppress(OSError):  # another front may be sweeping it at this moment
            group.kill()
            group.remove(patience=max(0.0, deadline - time.monotonic()))
    return sorted(swept)


def _limit_cpu(place: Home, quota: int | None) -> None:
    if place.version == 2:
        cgroup_files.write(place.directory / "cpu.max", f"{'max' if quota is None else quota} {CPU_PERIOD}")
    else:
        cgroup_files.write(place.directory / "cpu.cfs_period_us", str(CPU_PERIOD))
        cgroup_files.write(place.directory / "cpu.cfs_quota_us", str(-1 if quota is None else quota))

"""Memory of processes, and waiting for their end, from outside."""

from __future__ import annotations

import contextlib
import os
import select
import time

import psutil

_FIELDS = {"Pss", "Private_Clean", "Private_Dirty"}


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    root = psutil.Process(pid)
    return [pid, *(child.pid for child in root.children(recursive=True))]


def pss(pids: list[int]) -> int:
    """Bytes, pages that several share counted in parts."""
    return sum(_rollup(pid).get("Pss", 0) for pid in pids)


def private(pids: list[int]) -> int:
    """Bytes that belong to one of these processes alone."""
    found = [_rollup(pid) for pid in pids]
    return sum(one.get("Private_Clean", 0) + one.get("Private_Dirty", 0) for one in found)


def _rollup(pid: int) -> dict[str, int]:
    fields: dict[str, int] = {}
    with (
        contextlib.suppress(FileNotFoundError, ProcessLookupError),
        open(f"/proc/{pid}/smaps_rollup") as file,
    ):
        for line in file:
            name, _, rest = line.partition(":")
            if name in _FIELDS:
                fields[name] = int(rest.split()[0]) * 1024
    return fields


def reset_peak() -> int:
    """Begin to watch the most memory that this process has at a time; bytes it has now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return peak()


def peak() -> int:
    """Bytes that it had at most since ``reset_peak``."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def pid_of(pidfd: int) -> int:
    """The pid, in our own namespace, of the process behind a pidfd."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


class Watch:
    """Some processes whose end is awaited; made while they live."""

    def __init__(self, pids: list[int]) -> None:
        self._pidfds = [os.pidfd_open(pid) for pid in pids]

    def gone(self, timeout: float = 10.0) -> float:
        """Wait until all have ended; the moment. ``TimeoutError`` when one lives on."""
        end = time.perf_counter() + timeout
        for pidfd in self._pidfds:
            left = max(0.0, end - time.perf_counter())
            if not select.select([pidfd], [], [], left)[0]:
                raise TimeoutError("a process lives on")
        moment = time.perf_counter()
        while self._pidfds:
            os.close(self._pidfds.pop())
        return moment

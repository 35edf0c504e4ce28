"""Names of what a front makes on its host (control groups, scratch directories): they name their
maker exactly, so that what a front has left behind when it died is found and removed.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

PREFIX = "kernel-runtime"
_counter = itertools.count()


def unique_name() -> str:
    """``kernel-runtime-<pid namespace>-<pid>-<start time>-<counter>``: names its maker exactly."""
    return f"{PREFIX}-{_namespace()}-{os.getpid()}-{start_time(os.getpid())}-{next(_counter)}"


def orphaned(name: str) -> bool:
    """Whether the maker of what is called so lived in our pid namespace and has ended."""
    try:
        namespace, pid, started, _ = (int(part) for part in name.removeprefix(f"{PREFIX}-").split("-"))
    except ValueError:
        return False
    return namespace == _namespace() and start_time(pid) != started


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (a pid may be another's by now, this is
    not); 0 when there is no such process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(stat.rpartition(b")")[2].split()[19])


def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino

"""Processes and control groups of a kernel, seen from the host."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import psutil

from kernel_runtime.sandbox import hierarchy
from kernel_runtime.sandbox.names import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def below(pid: int) -> list[psutil.Process]:
    """Every process below ``pid``: launcher, zygote, first process, live branch, its children."""
    return psutil.Process(pid).children(recursive=True)


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run (a zombie is dead: only its parent's answer is missing)."""
    return [p for p in processes if p.is_running() and _status(p) not in (None, psutil.STATUS_ZOMBIE)]


def _status(process: psutil.Process) -> str | None:
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return None


def eventually(holds: Callable[[], object], seconds: float, step: float = 0.02) -> bool:
    """Whether ``holds()`` becomes true within ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(step)
    return bool(holds())


def groups_of(pid: int) -> list[Path]:
    """Control groups that the front ``pid`` made."""
    homes = {home.directory for home in hierarchy.detect().homes.values()}
    return [path for home in homes for path in home.glob(f"{PREFIX}-*-{pid}-*")]


def memory_of(pid: int) -> int:
    """Bytes of memory of one process, shared pages counted in part. Without what it has mapped of files: its part
    of a library grows when strangers that have it, too, come to their end."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        fields = dict(line.split(":", 1) for line in file if line.startswith("Pss_"))
    return sum(int(fields[name].split()[0]) * 1024 for name in ("Pss_Anon", "Pss_Shmem"))


def open_fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def maps_of(pid: int) -> str:
    """What a process has mapped; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/maps") as file:
            return file.read()
    except OSError:
        return ""

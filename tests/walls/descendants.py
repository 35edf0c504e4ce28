"""The processes of a guest, as the host sees them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

from kernel_runtime.workers.processes import pid_within

if TYPE_CHECKING:
    from tests.walls.conftest import Guest


def below(guest: Guest) -> list[psutil.Process]:
    """The host's view of what is below a guest's first process, but for frozen branches that stand still."""
    try:
        found = psutil.Process(guest.inner.pid).children(recursive=True)
        return [process for process in found if not _is_frozen(guest, process)]
    except psutil.NoSuchProcess:
        return []


def _is_frozen(guest: Guest, process: psutil.Process) -> bool:
    known = pid_within(process.pid) in guest.inner.snapshots.pids
    return known and process.status() == psutil.STATUS_STOPPED


def settles(guest: Guest, number: int) -> bool:
    deadline = time.monotonic() + 60
    while len(below(guest)) != number and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(below(guest)) == number

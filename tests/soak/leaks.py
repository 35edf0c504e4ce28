"""What a front may leave behind, counted from outside: descriptors, processes, groups, mounts, files."""

from __future__ import annotations

import glob
import os
import tempfile
import time

import msgspec
import psutil
from msgspec.structs import replace

from tests.journeys.processes import groups_of, open_fds

#: The most threads of asyncio's default executor.
_POOL = min(32, (os.cpu_count() or 1) + 4)


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything there is, for the front ``pid`` and all below it."""

    fds: int
    threads: int
    processes: int
    zombies: int
    groups: int
    mounts: int
    files: int

    def is_as(self, before: Count) -> bool:
        """Whether nothing is left that was not there before. A front's pool of threads fills as it is used:
        some more of these are no leak, one for each guest or cell is."""
        filled = self.threads - before.threads
        return replace(self, threads=before.threads) == before and filled <= _POOL


def count(pid: int) -> Count:
    """Count now. Mounts are those of the front and of each namespace below it."""
    below = psutil.Process(pid).children(recursive=True)
    return Count(
        fds=open_fds(pid) + sum(map(_fds, below)),
        threads=psutil.Process(pid).num_threads(),
        processes=len(below),
        zombies=sum(_is_zombie(one) for one in below),
        groups=len(groups_of(pid)),
        mounts=_mounts(pid) + sum(_mounts(one.pid) for one in below),
        # by their names, of this front alone: others may be at work beside it
        files=len(glob.glob(f"{tempfile.gettempdir()}/kernel-runtime*/*-{pid}-*")),
    )


def settled(pid: int) -> Count:
    """The count once it has stayed the same for two seconds: every end has been noticed everywhere."""
    last, since = count(pid), time.monotonic()
    end = since + 120
    while time.monotonic() - since < 2:
        time.sleep(0.05)
        found = count(pid)
        if found != last:
            last, since = found, time.monotonic()
        assert time.monotonic() < end, "it never comes to rest"
    return last


def _fds(process: psutil.Process) -> int:
    try:
        return open_fds(process.pid)
    except OSError:
        return 0


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _mounts(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/mountinfo") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0


def memory(pid: int) -> int:
    """Private bytes of one process, in memory now."""
    return int(psutil.Process(pid).memory_full_info().uss)


def zygotes(pid: int) -> list[int]:
    """The processes below the front that live as long as it does."""
    return [one.pid for one in psutil.Process(pid).children(recursive=True)]


def amount(name: str, few: int) -> int:
    """How often to repeat: ``few``, or what the environment variable ``name`` says (``make soak``)."""
    return int(os.environ.get(name, few))

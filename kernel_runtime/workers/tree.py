"""Trees of processes, where no pid namespace bounds them: found and ended as a whole.

The root of a tree adopts its orphans (``PR_SET_CHILD_SUBREAPER``), so that a double fork or a
session of its own does not lead out of it while the root lives.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PATIENCE_SECONDS = 5.0
_THREADS = 17


def descendants(root: int, *, zombies: bool = False) -> set[int]:
    """The living processes below ``root``; zombies, too, if wanted: else they are left to whoever
    waits for them.
    """
    children: dict[int, list[int]] = {}
    for pid, parent in _parents(zombies=zombies):
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), ())
        waiting += [pid for pid in below if pid not in found]
        found.update(below)
    return found


def children(parent: int) -> set[int]:
    """Its children, zombies as well."""
    return {pid for pid, above in _parents(zombies=True) if above == parent}


def _parents(*, zombies: bool = False) -> Iterable[tuple[int, int]]:
    """(pid, parent) of every process that can be seen."""
    names: list[str] = []
    with contextlib.suppress(PermissionError):  # behind a wall that covers /proc
        names = os.listdir("/proc")
    for name in names:
        if name.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
                if zombies or not has_ended(fields):
                    yield int(name), int(fields[1])


def has_ended(fields: list[bytes]) -> bool:
    """By those of a ``/proc/PID/stat`` behind the name: also without its first thread it goes on with others."""
    return fields[0] in (b"Z", b"X") and int(fields[_THREADS]) <= 1


def end_below(root: int) -> bool:
    """Kill every process below ``root``; False if some could not be ended in time.

    All are stopped first, so that none can fork away while the others are looked for.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while found := descendants(root):
        stopped: set[int] = set()
        while new := found - stopped:
            _signal(new, signal.SIGSTOP)
            stopped |= new
            found = descendants(root)
        _signal(stopped, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)  # the dying ones are on their way out
    return True


def end(root: int) -> bool:
    """Kill ``root`` and every process below it."""
    ended = end_below(root)
    _signal([root], signal.SIGKILL)
    return ended


def crowd(uid: int) -> int:
    """How many processes and threads a user has now."""
    count = 0
    for pid, _ in _parents():
        with contextlib.suppress(OSError, StopIteration), open(f"/proc/{pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
            if int(fields["Uid"].split()[0]) == uid:
                count += int(fields["Threads"])
    return count


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

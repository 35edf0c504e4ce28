"""Every process of a pid namespace, as its first one deals with them: stopped, looked at, ended."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

#: In ``/proc/PID/stat``, behind the name. PF_EXITING is among the kernel's flags.
_STATE, _SESSION, _FLAGS, _THREADS, _BEGAN, _EXITING = 0, 3, 6, 17, 19, 0x4
_PAUSE = 0.0005
#: How often they are stopped once more while some do not stand still.
_PASSES = 20


class Other(NamedTuple):
    """A process that has not ended. ``exiting``: it runs no code any more, though the kernel is still at its memory;
    ``began``: by the kernel's clock, so that another one that got its pid is told from it."""

    stopped: bool
    exiting: bool
    session: int
    began: int


def others() -> dict[int, Other]:
    """All but pid 1. The first thread of one may end before the others: it has ended when no other is left."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and name != "1":
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            state, is_last = fields[_STATE], int(fields[_THREADS]) <= 1
            exiting = is_last and bool(int(fields[_FLAGS]) & _EXITING)
            if not (is_last and state in b"ZX"):
                found[int(name)] = Other(state in b"Tt", exiting, int(fields[_SESSION]), int(fields[_BEGAN]))
    return found


def stop() -> None:
    """Stop all of them. Whom the signal has not reached yet may let others go on: they are stopped again."""
    for _ in range(_PASSES):
        _stop_once()
        if all(other.stopped or other.exiting for other in others().values()):
            return
        time.sleep(_PAUSE)


def end_since(known: dict[int, Other], spare: set[int]) -> None:
    """End all that are not ``known``, nor to spare; these stay stopped."""
    stop()
    found = others()
    end(spare | {pid for pid, other in found.items() if pid in known and known[pid].began == other.began})


def end(spare: set[int], *, soon: bool = False) -> None:
    """End all but pid 1, which the kernel spares, and those to spare; ``soon``: until they run no code.

    With some to spare, all are stopped before each look, so that none forks away meanwhile; the spared ones stay
    stopped. That holds for one look more than finds any: an end can let go on what was spared.
    """
    if os.getpid() != 1:  # elsewhere it would be every process of the user
        return
    if not spare:
        send(os.kill, -1, signal.SIGKILL)
        return
    over = False
    while not over:
        over = True
        while condemned := _stopped_and_condemned(spare, soon=soon):
            over = False
            for pid in condemned:
                send(os.kill, pid, signal.SIGKILL)
            time.sleep(_PAUSE)  # they are on their way out


def _stopped_and_condemned(spare: set[int], *, soon: bool) -> list[int]:
    """Where one ends that a spared one shares its session with, the kernel may let that go on, at its very end
    (an orphaned group of processes): such an end is waited for."""
    _stop_once()
    found = others()
    sessions = {found[pid].session for pid in spare if pid in found}
    return [
        pid
        for pid, other in found.items()
        if pid not in spare and not (soon and other.exiting and other.session not in sessions)
    ]


def leads_a_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def _stop_once() -> None:
    send(os.kill, -1, signal.SIGSTOP)


def send(how: Callable[[int, int], None], target: int, number: int) -> bool:
    """False when there is no such process: it has ended, and the reaper says so."""
    try:
        how(target, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True

"""However many processes and threads a guest begins, and whatever they hide: bounded and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel_runtime.workers.processes import Process, Processes
from tests.walls.descendants import settles

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.walls.conftest import Guest, House

pytestmark = pytest.mark.usefixtures("front_is_alive")


BOMB = """
import os, time
count = 0
for _ in range(200):
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    except OSError:
        break
    count += 1
count
"""
THREADS = """
import threading
stop, count = threading.Event(), 0
threading.stack_size(1 << 16)  # or memory would end first
for _ in range(200):
    try:
        threading.Thread(target=stop.wait, daemon=True).start()
    except RuntimeError:
        break
    count += 1
stop.set()
count
"""


@pytest.mark.parametrize("code", [BOMB, THREADS], ids=["processes", "threads"])
def test_bombs_are_small(house: House, code: str) -> None:
    """Control group and rlimit both hold the number; the control leaves out both."""
    guest = house.open(pids=40)
    assert 20 < int(guest.answer(code)) < 45
    guest.restart()
    assert guest.answer("6 * 7") == "42"
    guest.close()
    assert house.run(code, pids=40, without=("cgroup", "rlimits")).result == "200"


def test_a_bomb_that_never_stops(open_guest: Callable[..., Guest]) -> None:
    """Each fork forks on. The cell ends by its wall limit, the session goes on, nothing is left."""
    guest = open_guest(pids=40, wall="3s")
    result = guest.run(
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    )
    assert result.verdict is not None
    assert guest.answer("6 * 7") == "42"
    assert settles(guest, 1)


def test_a_flood_of_zombies(open_guest: Callable[..., Guest]) -> None:
    """Its own unreaped children count for it alone; orphans are reaped by pid 1 at once."""
    guest = open_guest(pids=40)
    kept = "import os\nfor _ in range(25):\n    os.fork() or os._exit(0)"
    assert guest.run(kept).ok
    guest.restart()
    orphans = """
import os, time
born, end = 0, time.monotonic() + 60
while born < 100 and time.monotonic() < end:
    try:
        pid = os.fork()
    except OSError:
        time.sleep(0.001)  # pid 1 is on its way
        continue
    if pid == 0:
        try:
            if os.fork() != 0: os._exit(0)
        finally:
            os._exit(1)
    born += os.waitpid(pid, 0)[1] == 0
born
"""
    assert guest.answer(orphans) == "100", "more than twice as many as there may be at a time"
    assert settles(guest, 1)


HIDDEN = """
import ctypes, os, shutil, time
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
shutil.copy("/bin/sleep", "/tmp/unreadable")
os.chmod("/tmp/unreadable", 0o111)
if os.fork() == 0:
    os.execv("/tmp/unreadable", ["unreadable", "60"])
block = bytearray(100 << 20)
"""


def test_not_dumpable_processes_are_measured(open_guest: Callable[..., Guest]) -> None:
    """By prctl, or by a program that its own user cannot read: they cannot hide what they use."""
    guest = open_guest()
    assert guest.run(HIDDEN).ok
    usage = guest.usage()
    assert usage.memory > 100 * 2**20
    assert usage.pids >= 3


def test_what_cannot_be_read_counts_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary front without control groups may not read their shares: then all that they hold counts."""

    def closed(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(Processes, "open", closed)
    first, other = (Process(pid, "S", 0.0, 1, pid << 20) for pid in (1, 2))
    assert Processes(1).shared_out([]) == 0
    assert Processes(1).shared_out([first, other]) == 2 << 20


def test_names_that_lie(open_guest: Callable[..., Guest]) -> None:
    """What the host reads of processes does not trust their names."""
    guest = open_guest()
    code = """
import ctypes, os, time
for name in (b") R 1 1 1 (", b"a b\\nc", b"\\xff\\xfe", b"Pid:\\t1"):
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(15, name, 0, 0, 0)
        time.sleep(60)
"""
    guest.run(code)
    assert settles(guest, 5)
    assert guest.usage().pids >= 6
    guest.restart()
    assert settles(guest, 1)

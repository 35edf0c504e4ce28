"""Nothing that a guest began outlives its branch."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from kernel_runtime.domain.verdict import Reason
from tests.walls.descendants import below, settles

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.walls.conftest import Guest, House

pytestmark = pytest.mark.usefixtures("front_is_alive")


SURVIVOR = """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            time.sleep(120)
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("end", ["import os; os._exit(1)", "import os; os.kill(os.getpid(), 9)", "restart"])
def test_no_survivors(open_guest: Callable[..., Guest], end: str) -> None:
    """Forked twice, in sessions of their own, deaf to signals: they end with the branch."""
    guest = open_guest()
    guest.run(SURVIVOR)
    assert settles(guest, 6), "the control: until the branch ends, they are there"
    if end == "restart":
        guest.restart()
    else:
        guest.run(end)
    assert guest.answer("6 * 7") == "42"
    assert settles(guest, 1)


def test_closing_leaves_no_process(house: House) -> None:
    guest = house.open()
    guest.run(SURVIVOR)
    assert settles(guest, 6)
    processes = [psutil.Process(guest.inner.pid), *below(guest)]
    guest.close()
    house._guests.remove(guest)
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []


def test_a_plain_child_survives(plain: Callable[..., Any]) -> None:
    """The control of the tests above: without a guest's pid 1, it is left to the host."""
    code = """
import json, os, time
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writing, str(os.getpid()).encode())
        for fd in (0, 1, 2):
            os.close(fd)
        time.sleep(60)
    os._exit(0)
os.wait()
print(json.dumps([int(os.read(reading, 99))]))
"""
    (survivor,) = plain(code)
    assert psutil.pid_exists(survivor)
    os.kill(survivor, signal.SIGKILL)


@pytest.mark.parametrize("how", ["signal.signal(n, signal.SIG_IGN)", "signal.pthread_sigmask(0, {n})"])
def test_ignored_signals_end_nothing_but_the_branch(open_guest: Callable[..., Guest], how: str) -> None:
    guest = open_guest(wall="3s")
    code = f"""
import signal
for n in set(range(1, 65)) - {{9, 19, 32, 33}}:
    {how}
while True:
    pass
"""
    result = guest.run(code)
    assert result.verdict is not None
    assert result.verdict.reason is Reason.WALL
    assert not result.verdict.survived
    assert guest.answer("6 * 7") == "42"

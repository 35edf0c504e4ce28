"""System calls by chance: whatever a guest asks of its kernel, the host stays as it was.

Seeded and short here; ``make fuzz`` lets it run longer, from a new seed each time.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.walls.rows import prelude

if TYPE_CHECKING:
    from tests.walls.conftest import Guest, House

SECONDS = float(os.environ.get("KERNEL_RUNTIME_FUZZ_SECONDS", "3"))
SEED = int(os.environ.get("KERNEL_RUNTIME_FUZZ_SEED", "20261120"))
#: A cell of this many seconds; then the guest is restarted and goes on with the next seed.
ROUND = 3.0
FUZZ = """
import random
chance = random.Random(SEED)
block = ctypes.create_string_buffer(4096)
address = ctypes.addressof(block)
VALUES = [0, 1, 2, 3, 4, 7, 8, 16, 17, 100, 4096, 0x1000, 0x10000000, 0x7fffffff, 0x80000000, 0xffffffff,
          2**32, 2**47, 2**63 - 1, -1, -2, -100, -4096]
PATHS = [b"/", b"/tmp/x", b"/proc/self/mem", b"/proc/1/mem", b"/dev/null", b"/dev/ptmx", b"..", b"", MARKER]
#: They would only end or stop the child that calls them.
DULL = {NR[name] for name in ("exit", "exit_group", "pause", "rt_sigsuspend", "rt_sigreturn") if name in NR}
NUMBERS = [n for n in (*range(470), 512, 547, 1023, 2**30 + 39) if n not in DULL]
def argument():
    kind = chance.random()
    if kind < 0.4:
        return chance.choice(VALUES)
    if kind < 0.6:
        return address + chance.choice((0, 8, 4090))
    if kind < 0.75:
        return ctypes.addressof(ctypes.create_string_buffer(chance.choice(PATHS)))
    if kind < 0.9:
        return chance.randrange(-1, 300)
    return chance.getrandbits(64) - 2**63
def child():
    os.setsid()
    signal.alarm(2)
    for _ in range(300):
        block.raw = chance.randbytes(4096)
        arguments = [ctypes.c_long(argument()) for _ in range(6)]
        libc.syscall(ctypes.c_long(chance.choice(NUMBERS)), *arguments)
end, children, calls = time.monotonic() + LENGTH, 0, 0
while time.monotonic() < end:
    chance.seed(f"{SEED}-{children}")
    try:
        pid = os.fork()
    except OSError:
        os.kill(-1, 9)
    if pid == 0:
        try:
            child()
        finally:
            os._exit(0)
    children += 1
    waited = time.monotonic() + 3
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > waited:
            os.kill(pid, 9)
        time.sleep(0.001)
children
"""


@pytest.mark.timeout(SECONDS * 3 + 120)
def test_calls_by_chance_change_nothing_outside(house: House, marker: Path, directory: Path) -> None:
    other = house.open()
    other.run("kept = 42")
    guest = house.open(wall="30s", disk="64M", pids=128)
    before = _outside(marker, directory)
    handles = psutil.Process().num_fds()
    chance, end, children = random.Random(SEED), time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        children += _round(guest, chance.getrandbits(32), marker)
    assert children > 0
    assert other.answer("kept") == "42"
    assert _outside(marker, directory) == before
    guest.close()
    other.close()
    assert psutil.Process().num_fds() <= handles


def _round(guest: Guest, seed: int, marker: Path) -> int:
    """One cell of calls, then a branch that answers; how many children it used up."""
    head = f"{prelude()}\nSEED, LENGTH, MARKER = {seed}, {min(ROUND, SECONDS)}, {os.fsencode(marker)!r}\n"
    result = guest.run(head + FUZZ)
    # The guest may have ended itself; its host has an answer for that, and another branch.
    assert result.ok or result.error or result.verdict, f"seed {seed}"
    guest.restart()
    assert guest.answer("6 * 7") == "42", f"seed {seed}"
    found = guest.inner.init.meter.processes.look()[1:]
    processes = [p for p in found if not (p.pid in guest.inner.snapshots.pids and p.state == "T")]
    # The live branch, and the child that has just left a frozen one.
    assert len([p for p in processes if p.state != "Z"]) <= 2, f"seed {seed}: {processes}"
    return int(result.result or 1)


def _outside(marker: Path, directory: Path) -> list[object]:
    """What an escape would change: a file, the directory, this machine's name and its own state."""
    return [
        marker.read_text(),
        marker.stat().st_mode,
        sorted(os.listdir(directory)),
        os.uname().nodename,
        os.nice(0),
        Path("/proc/sys/kernel/core_pattern").read_text(),
        psutil.boot_time() // 100,
    ]

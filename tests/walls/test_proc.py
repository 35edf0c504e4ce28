"""What the kernel tells everybody about the machine and its other users is covered for guests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

FILE_WALLS = ("mount", "landlock", "user")
#: Those that are never empty on a host.
TELLING = ("cmdline", "interrupts")
COVERED = [name for name in (*TELLING, "key-users", "keys", "locks") if Path("/proc", name).exists()]


@pytest.mark.parametrize("name", COVERED)
def test_it_reads_as_nothing(name: str, attack: Callable[..., str]) -> None:
    code = f"len(open('/proc/{name}').read(4096))"
    assert attack(code) == "0"
    if name in TELLING:
        assert int(attack(code, without=FILE_WALLS)) > 0


def test_what_programs_need_is_there(attack: Callable[..., str]) -> None:
    code = "all(open(f'/proc/{n}').read(1) for n in ('cpuinfo', 'meminfo', 'stat', 'uptime', 'self/maps', 'self/status'))"
    assert attack(code) == "True"


def test_a_cover_cannot_be_taken_off(attack: Callable[..., str]) -> None:
    code = "import ctypes; c = ctypes.CDLL(None, use_errno=True); c.umount2(b'/proc/cmdline', 2), ctypes.get_errno()"
    assert attack(code) == "(-1, 1)"
    assert attack("len(open('/proc/thread-self/root/proc/cmdline').read())") == "0"

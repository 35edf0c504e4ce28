"""The language policy of level strict is advice: code that gets around it stands before the walls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.walls.escape import escaped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.walls.conftest import Guest


def test_there_is_a_way_around_the_language(attack: Callable[..., str]) -> None:
    assert "PolicyError" in attack("import ctypes", level="strict")
    assert attack(escaped("import ctypes\nctypes.sizeof(ctypes.c_int)"), level="strict") == "4"
    assert attack(escaped("eval('6 * 7')"), level="strict") == "42"


def test_files_of_the_host_stay_out_of_reach(attack: Callable[..., str], marker: Path) -> None:
    code = escaped(f"open({str(marker)!r}).read()")
    assert "FileNotFoundError" in attack(code, level="strict")
    assert attack(code, level="strict", without=("mount", "landlock", "user")) == "'planted'"


def test_addresses_of_the_host_stay_out_of_reach(attack: Callable[..., str], listener: int) -> None:
    code = escaped(f"import socket\nsocket.create_connection(('127.0.0.1', {listener}), 5).recv(99)")
    answer = attack(code, level="strict")
    assert "Error" in answer
    assert "planted" not in answer
    assert attack(code, level="strict", without=("net", "landlock")) == "b'planted'"


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess\nsubprocess.run(['/bin/true']).returncode",
        "import os\nos.posix_spawn('/bin/true', ['true'], {})",
    ],
)
def test_no_program_starts(attack: Callable[..., str], code: str) -> None:
    assert "PermissionError" in attack(escaped(code), level="strict")
    assert "Error" not in attack(escaped(code), level="strict", without=("seccomp", "landlock"))


def test_the_kernel_answers_no_more_than_without_the_escape(attack: Callable[..., str]) -> None:
    code = escaped("import ctypes\nctypes.CDLL(None, use_errno=True).unshare(0x10000000)")
    assert attack(code, level="strict") == "-1"
    assert attack(code, level="strict", without=("seccomp", "capabilities", "user", "landlock")) == "0"


@pytest.mark.parametrize("way", ["restart", "undo"])
def test_what_a_cell_wrote_has_no_say_in_how_a_branch_begins(
    open_guest: Callable[..., Guest], way: str
) -> None:
    guest = open_guest(level="strict")
    write = "with open('{}.py', 'w') as file:\n    file.write('found = 1')"
    assert guest.run("\n".join(write.format(name) for name in ("RestrictedPython", "planted"))).ok
    if way == "restart":
        guest.restart()
    else:
        guest.restore(1)
    assert "PolicyError" in guest.answer("import ctypes")
    assert guest.answer("import planted\nplanted.found") == "1", "the control: it is there to be imported"

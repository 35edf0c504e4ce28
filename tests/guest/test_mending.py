"""What a cell can do to its own process, and that the next cell runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.guest.conftest import Host

BREAKING = {
    "stdout None": "import sys; sys.stdout = None",
    "stdout closed": "import sys; sys.stdout.close(); sys.stderr.close()",
    "stdout deleted": "import sys; del sys.stdout, sys.stderr",
    "stdout nonsense": "import sys; sys.stdout = sys.stderr = 5",
    "descriptors closed": "import os\nfor fd in range(3): os.close(fd)",
    "low descriptors closed": "import os; os.closerange(0, 3)",
}


@pytest.mark.parametrize("what", BREAKING)
def test_the_next_cell_prints(guest: Host, what: str) -> None:
    guest.run(BREAKING[what])
    outcome = guest.run(
        "import sys, os\nprint('alive'); print('err', file=sys.stderr); os.write(1, b'raw'); 1 + 1"
    )
    assert outcome.text() == "alive\n"
    assert outcome.text("stderr") == "err\n"
    assert outcome.result == "2"
    assert guest.piped() == "raw"


def test_error_in_the_cell_that_broke_stdout_is_shown(guest: Host) -> None:
    assert guest.run("import sys; sys.stdout = None; 1/0").error == "ZeroDivisionError"
    assert guest.run("import sys; sys.stdout.close(); 5").result == "5"


def test_working_replacement_of_stdout_stays(guest: Host) -> None:
    guest.run("import io, sys; old = sys.stdout; sys.stdout = mine = io.StringIO(); print('a')")
    assert guest.run("print('b')").text() == ""
    assert guest.run("sys.stdout = old; mine.getvalue()").result == r"'a\nb\n'"


@pytest.mark.parametrize("names", [["len"], ["print", "isinstance", "Exception", "BaseException", "getattr"]])
def test_deleted_builtins_return(guest: Host, names: list[str]) -> None:
    outcome = guest.run("import builtins\n" + "\n".join(f"del builtins.{n}" for n in names))
    assert "deleted builtins were restored" in outcome.text("stderr")
    assert guest.run("print(len('abc'))").text() == "3\n"


def test_all_builtins_deleted(guest: Host) -> None:
    guest.run("import builtins; builtins.__dict__.clear()")
    assert guest.run("print(sum([1, 2]))").text() == "3\n"


def test_replaced_builtin_stays(guest: Host) -> None:
    guest.run("import builtins; builtins.ascii = lambda x: 99")
    assert guest.run("ascii([])").result == "99"


@pytest.mark.parametrize(
    "code", ["import os; os._exit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"]
)
def test_exit_and_crash_end_the_process(guest: Host, code: str) -> None:
    with pytest.raises((EOFError, ConnectionError)):
        guest.run(code)
    assert guest.process.wait(60) in (3, 256 - 11)


def test_current_task_cancelled(guest: Host) -> None:
    guest.run("import asyncio; asyncio.current_task().cancel()")
    assert guest.run("1 + 1").result == "2"
    guest.run("asyncio.current_task().cancel(); await asyncio.sleep(0)")
    assert guest.run("1 + 1").result == "2"


def test_loop_stopped(guest: Host) -> None:
    guest.run("import asyncio; asyncio.get_running_loop().stop()")
    assert guest.run("1 + 1").result == "2"


def test_host_hangs_up(guest: Host) -> None:
    guest.sock.close()
    assert guest.process.wait(60) == 0

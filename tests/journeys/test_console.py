"""``jupyter console`` in a real terminal: what a person types, and what they see."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from typing import TYPE_CHECKING

import pexpect
import pytest

from tests.journeys.kernels import OURS
from tests.jupyter.kernels import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

UP, TAB, CTRL_C, CTRL_D = "\x1b[A", "\t", "\x03", "\x04"
#: Colours and cursor movements of prompt_toolkit.
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>]|\][^\x07]*\x07)")


class Console:
    """A console, and the text it shows."""

    def __init__(self, cwd: str) -> None:
        arguments = [
            "-m",
            "jupyter_console",
            "--kernel",
            OURS,
            "--ZMQTerminalInteractiveShell.highlighting_style=bw",
            f"--ZMQCompleter.timeout={PATIENCE}",
            f"--ZMQTerminalInteractiveShell.kernel_is_complete_timeout={PATIENCE}",
        ]
        self.child = pexpect.spawn(
            sys.executable,
            [*arguments, "--ZMQTerminalInteractiveShell.simple_prompt=False"],
            cwd=cwd,
            env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "PYTHONWARNINGS": "ignore"},
            dimensions=(40, 120),
            encoding="utf-8",
            timeout=PATIENCE,
        )
        self._raw, self._seen = "", 0

    def expect(self, pattern: str, timeout: float = PATIENCE) -> str:
        """Read until ``pattern`` appears in the text that nobody waited for yet; the text up to there."""
        end = time.monotonic() + timeout
        while True:
            unread = _ESCAPES.sub("", self._raw)[self._seen :]
            if match := re.search(pattern, unread):
                self._seen += match.end()
                return unread[: match.end()]
            if time.monotonic() > end:
                raise AssertionError(f"no {pattern!r} in {unread!r}")
            with contextlib.suppress(pexpect.TIMEOUT):
                self._raw += self.child.read_nonblocking(65536, timeout=0.2)

    def prompt(self, number: int) -> str:
        return self.expect(rf"In \[{number}\]: ")

    def run(self, line: str) -> None:
        self.child.send(line)
        self.expect(re.escape(line[-12:]))
        self.child.send("\r")


@pytest.fixture
def console(tmp_path) -> Iterator[Console]:
    found = Console(str(tmp_path))
    found.prompt(1)
    yield found
    found.child.close(force=True)


def test_a_cell_and_its_result(console):
    console.run("6 * 7")
    assert "42" in console.expect(r"Out\[1\]: *42")
    console.prompt(2)
    console.run("print('from', 'inside')")
    console.expect("from inside")
    console.prompt(3)
    console.run("1/0")
    assert "ZeroDivisionError" in console.prompt(4)


@pytest.mark.slow
def test_completion_with_tab(console):
    console.run("a_long_name_for_it = 'completed'")
    console.prompt(2)
    console.child.send("a_long_na" + TAB)
    console.expect("me_for_it")
    console.child.send("\r")
    console.expect("'completed'")


@pytest.mark.slow
def test_input_is_asked_for_and_given(console):
    console.run("name = input('your name? ')")
    console.expect(r"your name\? ")
    console.child.send("Ada\r")
    console.prompt(2)
    console.run("name.upper()")
    console.expect("'ADA'")


def test_control_c_interrupts_and_the_state_is_kept(console):
    console.run("kept = 'still here'")
    console.prompt(2)
    console.run("while print('run' + 'ning') is None: import time; time.sleep(100_000)")
    console.child.send("\r")  # the end of the block
    console.expect("running")
    console.child.send(CTRL_C)
    assert "KeyboardInterrupt" in console.prompt(3)
    console.run("kept")
    console.expect("'still here'")


@pytest.mark.slow
def test_the_up_arrow_brings_back_what_was_typed(console):
    console.run("'remembered' + '!'")
    console.prompt(2)
    console.child.send(UP)
    console.expect(r"'remembered' \+ '!'")
    console.child.send("\r")
    assert "'remembered!'" in console.prompt(3)


def test_a_guest_that_dies_is_an_error_and_the_console_goes_on(console):
    console.run("import os; os._exit(7)")
    assert "exited with status 7" in console.prompt(2)
    console.run("6 * 7")
    console.expect("42")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exit", "control-d"])
def test_leaving_ends_the_kernel(console, how):
    if how == "exit":
        console.run("exit")
    else:
        console.child.send(CTRL_D)
        console.expect("exit")
        console.child.send("y\r")
    console.child.expect(pexpect.EOF, timeout=PATIENCE)
    console.child.close()
    assert console.child.exitstatus == 0

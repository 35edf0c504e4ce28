"""``%sandbox undo`` and its kin on real guests of ``%%sandbox``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError

if TYPE_CHECKING:
    from conftest import Displays
    from IPython.core.interactiveshell import InteractiveShell


def run(shell: InteractiveShell, cell: str, line: str = "") -> None:
    shell.run_cell_magic("sandbox", line, cell)


def shown(shell: InteractiveShell, line: str, kind: str = "text/plain") -> str:
    """What ``%sandbox …`` displays."""
    displays: Displays = shell.display_pub
    displays.published.clear()
    shell.run_line_magic("sandbox", line)
    (message,) = displays.published
    return str(message["data"][kind])


def test_undo_redo_and_restore(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "x = [1]")
    assert shown(shell, "snapshot clean --pin").startswith("'clean': the state after cell")
    run(shell, "x.append(2)\nopen('written.txt', 'w').write('1')")
    run(shell, "x.append(3)")
    told = shown(shell, "undo")
    assert re.match(r"undid the last cell: the state is the one after cell \d+ \(\d+ ms\)", told)
    run(shell, "print(x)")
    assert "restored 'clean'" in shown(shell, "restore clean")
    run(shell, "print(x)")
    assert capsys.readouterr().out == "[1, 2]\n[1]\n"
    told = shown(shell, "restore clean --reseed")
    assert "files that were written since stay written" in told
    assert "written.txt" in told
    shown(shell, "redo")
    run(shell, "print(x)")
    assert capsys.readouterr().out == "[1]\n"


_THREAD = "import threading\nstop = threading.Event()\nthreading.Thread(target=stop.wait, name='mine', daemon=True).start()"


def test_undo_says_why_it_cannot_and_that_there_will_be_no_redo(shell: InteractiveShell) -> None:
    run(shell, "x = 1")
    run(shell, _THREAD)
    run(shell, "x = 2")
    run(shell, "x = 3")
    with pytest.raises(
        UsageError, match=r"no snapshot before: other threads were running: .*'mine'.*: undo 3 goes there"
    ):
        shell.run_line_magic("sandbox", "undo 2")
    told = shown(shell, "undo 3")
    assert told.startswith("undid the last 3 cells: the state is the one after cell")
    assert (
        "the state that was left is not kept, redo cannot bring it back: other threads were running: " in told
    )
    with pytest.raises(UsageError, match=r"cannot be had back: other threads were running: .*'mine'"):
        shell.run_line_magic("sandbox", "redo")


def test_snapshots_lines_and_differences(shell: InteractiveShell) -> None:
    run(shell, "x = 1")
    shown(shell, "snapshot clean")
    run(shell, "x = 2")
    assert "~ x: int, 28 bytes = 1 → int, 28 bytes = 2" in shown(shell, "diff clean")
    assert "<td>x</td>" in shown(shell, "diff clean", "text/html")
    assert "clean" in shown(shell, "snapshots")
    assert "<td>clean</td>" in shown(shell, "snapshots", "text/html")
    assert shown(shell, "branch") == "→ main"
    assert "'other' begins here" in shown(shell, "branch other")
    assert shown(shell, "branch") == "· main\n→ other"
    assert "left 'other' for 'main'" in shown(shell, "branch main")
    assert shown(shell, "pin clean") == "pinned 'clean'"
    assert shown(shell, "drop clean") == "dropped 'clean'"


def test_each_guest_has_its_own(shell: InteractiveShell) -> None:
    run(shell, "x = 1", "--name a")
    run(shell, "x = 1", "--name b")
    shown(shell, "snapshot one --name a")
    assert "one" in shown(shell, "snapshots --name a")
    assert "one" not in shown(shell, "snapshots --name b")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("restore nothing", "there is no snapshot 'nothing'"),
        ("restore", "1 names, not 0"),
        ("redo now", "0 names, not 1"),
        ("undo x", "'x' is no number"),
        ("undo 99", "cannot be undone"),
        ("snapshot 1st", "is not a name"),
        ("undo --name nobody", "no guest is called 'nobody'"),
        ("burn", "invalid choice"),
    ],
)
def test_bad_input_is_one_plain_line(shell: InteractiveShell, line: str, said: str) -> None:
    run(shell, "x = 1")
    with pytest.raises(UsageError, match=said):
        shell.run_line_magic("sandbox", line)


def test_names_are_completed(shell: InteractiveShell) -> None:
    run(shell, "x = 1")
    shown(shell, "snapshot clean")

    def completed(line: str) -> list[str]:
        with provisionalcompleter():
            return [found.text for found in shell.Completer.completions(line, len(line))]

    assert "restore" in completed("%sandbox res")
    assert "clean" in completed("%sandbox restore cl")
    assert "--reseed" in completed("%sandbox restore --r")
    assert "default" in completed("%sandbox diff --name ")

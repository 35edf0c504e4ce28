"""``%sandbox undo`` and its kin on real guests of ``%%sandbox``."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError

from kernel_runtime.client import in_the_loop
from kernel_runtime.domain.errors import Conflict
from kernel_runtime.domain.magics import FRONT, GATE_ACTIONS, in_sandbox
from kernel_runtime.domain.records import Records
from kernel_runtime.jupyter import completion, sandbox_states
from kernel_runtime.jupyter.showing import SandboxError

if TYPE_CHECKING:
    from conftest import Displays
    from IPython.core.interactiveshell import InteractiveShell

    from kernel_runtime.jupyter.guests import Guest
    from kernel_runtime.jupyter.magics import SandboxMagics


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place for checkpoints."""
    monkeypatch.setenv("KERNEL_RUNTIME_STATE", str(tmp_path / "state"))


def guest(shell: InteractiveShell, name: str = "default") -> Guest:
    magics: SandboxMagics = shell.magics_manager.registry["SandboxMagics"]
    return magics.guests.get(name)


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
    assert shown(shell, "unpin clean") == "unpinned 'clean'"
    assert shown(shell, "drop clean") == "dropped 'clean'"


def test_what_has_not_been_weighed_is_not_told_as_nothing(shell: InteractiveShell) -> None:
    run(shell, "x = 1")
    shown(shell, "snapshot clean")
    assert shown(shell, "snapshots").endswith("\n2 snapshots; on line 'main'")
    session = guest(shell).watched
    in_the_loop(session.snapshots.weigh())
    assert re.search(r"\n2 snapshots, [\d.]+ [KM]B; on line 'main'$", shown(shell, "snapshots"))


def test_checkpoints_and_back_from_disk(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "x, y = 1, 'kept'")
    assert "kept on disk as 'monday': 2 variables" in shown(shell, "checkpoint monday")
    run(shell, "x = 2")
    told = shown(shell, "snapshot tuesday --pin --durable")
    assert "'tuesday': the state after cell 2, pinned" in told
    assert "kept on disk as 'tuesday'" in told
    shell.run_line_magic("sandbox", "kill default")
    capsys.readouterr()
    run(shell, "z = 3")
    offered = capsys.readouterr().err
    assert offered.startswith("kernel_runtime: a checkpoint of ")
    assert offered.endswith("(2 variables): %sandbox restore tuesday brings it back\n")
    with provisionalcompleter():
        line = "%sandbox restore "
        found = {one.text for one in shell.Completer.completions(line, len(line))}
    assert {"monday", "tuesday"} <= found
    told = shown(shell, "restore monday")
    assert told == "2 variables of checkpoint 'monday' are back; %sandbox undo takes that back"
    run(shell, "print(x, y, z)")
    assert capsys.readouterr() == ("1 kept 3\n", ""), "once"
    run(shell, "z = 4", "--name other")
    told = shown(shell, "--name other restore tuesday")
    assert "%sandbox --name other undo takes that back" in told
    assert told.endswith("it is not this notebook's own: %%sandbox default has kept it")
    run(shell, "print(x, z)", "--name other")
    assert capsys.readouterr() == ("2 4\n", ""), "it has none of its own"
    told = shown(shell, "restore monday --var y --force")
    assert told.startswith("1 variable of checkpoint 'monday' is back")
    with pytest.raises(UsageError, match="has no variable 'w'"):
        shell.run_line_magic("sandbox", "restore monday --var w")
    with pytest.raises(UsageError, match="there is no snapshot 'sunday'"):
        shell.run_line_magic("sandbox", "restore sunday")


def test_pause_and_resume(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "x = 1")
    assert re.match("paused; .* of memory given back", shown(shell, "pause"))
    assert guest(shell).watched.paused
    shown(shell, "resume")
    assert not guest(shell).watched.paused
    shown(shell, "pause")
    run(shell, "print(x)")
    assert capsys.readouterr().out == "1\n"


def test_files_of_a_guest_are_kept(shell: InteractiveShell) -> None:
    run(shell, "open('of_guest.txt', 'w').write('1')")
    place = Path("of_guest.txt")
    assert "of_guest.txt" in shown(shell, "files")
    assert not place.exists()
    assert "kept on the host" in shown(shell, "files keep of_guest.txt --name default")
    assert place.read_text() == "1"
    place.unlink()


GATED = """
def f(a):
    b = a + 1
    return b * 2
"""


def test_a_copy_made_at_a_gate_is_looked_at_edited_and_gone_on_with(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.push({"a": "the notebook's own"})
    assert "no copies yet" in (run(shell, GATED), shown(shell, "gates"))[1]
    run(shell, "%gate f")
    assert "%sandbox gates" in capsys.readouterr().out
    run(shell, "print('before')\ny = f(20)\nprint(f'{y=}')")
    assert capsys.readouterr().out == "before\ny=42\n"
    found = re.match(r"#(\d+)  in f, line \d, of cell 3", shown(shell, "gates"))
    assert found is not None
    number = found[1]
    with pytest.raises(UsageError, match=f"`%sandbox gate resume {number}` goes on there \\(in Python"):
        shell.run_line_magic("sandbox", f"restore {number}")
    assert "    a = 20" in shown(shell, f"gate show {number}")
    # an expression is the guest's: nothing of the notebook's is put into it
    assert shown(shell, f"gate eval {number} {{a}} --name default") == "{20}"
    told = shown(shell, f"gate set {number} b 100")
    assert told == f"b will be 100 when %sandbox gate resume {number} goes on"
    shell.run_line_magic("sandbox", f"--name default gate resume {number}")
    assert capsys.readouterr().out == "y=42\n"  # `b` is computed after the gate
    shown(shell, f"gate set {number} a 1")
    shell.run_line_magic("sandbox", f"gate resume {number}")
    assert capsys.readouterr().out == "y=4\n"
    run(shell, "print(y)")
    assert capsys.readouterr().out == "4\n"
    assert shown(shell, f"gate drop {number}") == f"dropped #{number}"


def test_an_error_after_a_gate_is_that_of_the_line(shell: InteractiveShell) -> None:
    run(shell, GATED)
    run(shell, "%gate f")
    run(shell, "f(1)\nif x := 1: pass")
    (copy,) = guest(shell).watched.stops.listing()
    shown(shell, f"gate set {copy.number} a 'text'")
    with pytest.raises(SandboxError, match="TypeError: can only concatenate"):
        shell.run_line_magic("sandbox", f"gate resume {copy.number}")


def test_a_cell_is_replayed(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "x = 1")
    run(shell, "y = x + 1\nprint('y is', y)\ny")
    shown(shell, "snapshot two")
    run(shell, "x = 10")
    shown(shell, "snapshot ten")
    told = shown(shell, "replay 2")
    assert told == (
        "cell 2 again, on the state after cell 1:\noutputs: no difference\nvariables: no difference"
    )
    told = shown(shell, "replay 2 --from ten")
    assert "-y is 2\n    +y is 11" in told
    assert "result:\n    -2\n    +11" in told
    assert "~ y: int, 28 bytes = 2 → int, 28 bytes = 11" in told
    run(shell, "print(x, y)")
    assert capsys.readouterr().out.endswith("10 2\n")
    shell.run_line_magic("sandbox", "reset default")
    with pytest.raises(UsageError, match="known cells: none yet"):
        shell.run_line_magic("sandbox", "replay 2")


def test_an_error_is_replayed_as_one(shell: InteractiveShell) -> None:
    run(shell, "x = 0")
    with pytest.raises(SandboxError):
        run(shell, "print('so far')\n1 / x")
    assert "outputs: no difference" in shown(shell, "replay 2")


def test_ctrl_c_reaches_the_cell_that_is_replayed(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, "seconds = 0")
    run(shell, "import time; time.sleep(seconds)")
    run(shell, "seconds = 600")
    shown(shell, "snapshot long")
    session = guest(shell).watched

    def press() -> None:
        while not session.executing:
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    assert "+KeyboardInterrupt" in shown(shell, "replay 2 --from long")
    run(shell, "print(seconds)")
    assert capsys.readouterr().out == "600\n"


@pytest.mark.parametrize("name", FRONT)
def test_the_kernels_magics_say_in_a_cell_what_they_are_called_here(
    shell: InteractiveShell, name: str
) -> None:
    with pytest.raises(SandboxError, match=f"`{in_sandbox(name)}`"):
        run(shell, f"%{name}")
    action = in_sandbox(name).removeprefix("%sandbox ")
    assert sandbox_states.recognise(action) is not None or action in completion.ACTIONS


@pytest.mark.parametrize("action", sandbox_states.ACTIONS)
def test_each_has_its_help_without_a_guest(shell: InteractiveShell, action: str) -> None:
    displays: Displays = shell.display_pub
    shell.run_cell(f"%sandbox {action}?")
    (message,) = displays.published
    told = str(message["data"]["text/plain"])
    assert told.startswith("usage: %sandbox ")
    assert "--name GUEST" in told
    elsewhere = set(re.findall(r"(?<!sandbox )%([a-z]+)", told)) - {"sandbox", "gate"}
    assert not elsewhere, "as they are called in the kernel alone"


def test_a_question_within_a_cell_is_left_alone(shell: InteractiveShell) -> None:
    shell.run_cell("text = '''\n%sandbox undo?\n'''")
    assert shell.user_ns["text"] == "\n%sandbox undo?\n"


def test_variables_of_the_notebook_are_put_into_a_line(shell: InteractiveShell) -> None:
    run(shell, "x = 1")
    shell.push({"called": "clean"})
    shell.run_cell("%sandbox snapshot {called}")
    assert "'clean': the state" in str(shell.display_pub.published[-1])


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
        ("restore nothing --name default", "there is no snapshot 'nothing'"),
        ("restore", "%sandbox restore: .*required: NAME; `%sandbox restore\\?` shows"),
        ("redo now", "%sandbox redo: unrecognized arguments: now"),
        ("undo x", "'x' is not a whole number, like 3"),
        ("undo ²", "'²' is not a whole number"),
        ("restore ²", "there is no snapshot '²'"),
        ("gate show ²", "there is no copy ² .*; copies made at gates: none"),
        ("undo 0", "undo: 0 is not a number of cells; 1 is the last one"),
        ("branch 1x", "^line of state: '1x' is not a name"),
        ("checkpoint 1x", "^checkpoint: '1x' is not a name"),
        ("undo --pin", "%sandbox undo: unrecognized arguments: --pin"),
        ("snapshot --reseed", "%sandbox snapshot: unrecognized arguments: --reseed"),
        ("list --name default", "unrecognized arguments: --name"),
        ("pin", "which one"),
        ("gate f", "`%gate FUNCTION` in a cell of %%sandbox"),
        ("gate show 1", "^#1 was not made at a gate; copies made at gates: none"),
        ("gate eval 1", "%sandbox gate eval N EXPR: which expression"),
        ("replay 7", "cell 7 did not run"),
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


def test_an_interrupt_ends_what_a_magic_waits_for_or_else_the_guests_cell() -> None:
    async def story() -> list[str]:
        told: list[str] = []
        session = SimpleNamespace(interrupt=lambda: told.append("the cell"))
        bench = sandbox_states.Bench(session, Records(), "default")
        waiting = asyncio.ensure_future(bench.unless_interrupted(asyncio.Event().wait()))
        await asyncio.sleep(0)
        bench.interrupt()
        with pytest.raises(Conflict, match="interrupted"):
            await waiting
        assert not told
        bench.interrupt()
        return told

    assert asyncio.run(story()) == ["the cell"]


def test_names_are_completed(shell: InteractiveShell) -> None:
    run(shell, "x = 1")
    shown(shell, "snapshot clean")

    def completed(line: str) -> list[str]:
        with provisionalcompleter():
            return [found.text for found in shell.Completer.completions(line, len(line))]

    run(shell, "x = 1", "--name other")
    assert {"restore", "resume"} <= set(completed("%sandbox res"))
    assert completed("%sandbox restore cl") == ["clean"]
    assert completed("%sandbox restore --r") == ["--reseed"]
    assert completed("%sandbox unpin cl") == ["clean"]
    assert completed("%sandbox diff --name ") == ["default", "other"]
    assert completed("%sandbox restore --name other cl") == []
    assert completed("%sandbox --name default restore cl") == ["clean"]
    assert completed("%sandbox --name default checkp") == ["checkpoint"]
    assert set(completed("%sandbox snapshot --")) == {"--pin", "--durable", "--name"}
    assert completed("%sandbox undo --") == ["--name"]
    assert "--name" not in completed("%sandbox undo --name default --")
    assert completed("%sandbox gate ") == ["--name", *sorted(GATE_ACTIONS)]
    assert completed("%sandbox replay 1 --f") == ["--from"]
    assert "clean" in completed("%sandbox replay 1 --from ")

"""Undo, restore, branches, differences, gates and replay in the installed kernel, as a notebook uses them."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.journeys.kernels import check_alive, explained, front_of, result, started
from tests.jupyter.kernels import PATIENCE, Kernel, Message, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    limits = ("--memory", "512M", "--wall", "20s")
    with started(*limits, cwd=str(tmp_path_factory.mktemp("work"))) as found:
        yield found


def run(kernel: Kernel, code: str) -> str:
    """A cell of the guest's: its text and its result."""
    reply, outputs = kernel.run(code, timeout=60)
    assert reply["content"]["status"] == "ok", reply["content"]
    return text_of(outputs) + result(outputs)


def shown(kernel: Kernel, code: str) -> str:
    """What a magic of the front's shows."""
    reply, outputs = kernel.run(code, timeout=60)
    assert reply["content"]["status"] == "ok", reply["content"]
    return "\n".join(m["content"]["data"]["text/plain"] for m in outputs if m["msg_type"] == "display_data")


def refused(kernel: Kernel, code: str) -> str:
    told = explained(*kernel.run(code, timeout=60))
    assert "\n" not in told
    return told


def number_of_copy(kernel: Kernel) -> str:
    """Of the newest copy made at a gate."""
    return shown(kernel, "%gates").splitlines()[-1].split()[0].lstrip("#")


def test_undo_and_redo_over_several_cells(kernel: Kernel) -> None:
    for code in ("x = [1]", "x.append(2)", "x.append(3)"):
        run(kernel, code)
    assert shown(kernel, "%undo 2").startswith("undid the last 2 cells")
    assert run(kernel, "x") == "[1]"
    assert shown(kernel, "%undo").startswith("undid the last cell")
    shown(kernel, "%redo")
    assert run(kernel, "x") == "[1]"


def test_undo_says_why_it_cannot_and_that_there_will_be_no_redo(kernel: Kernel) -> None:
    run(kernel, "x = 1")
    run(
        kernel,
        "import threading; stop = threading.Event()\nthreading.Thread(target=stop.wait, name='mine', daemon=True).start()",
    )
    run(kernel, "x = 2")
    run(kernel, "x = 3")
    told = refused(kernel, "%undo")
    assert "the last cell cannot be undone, there is no snapshot before: other threads were running: " in told
    assert "'mine'" in told
    assert told.endswith(": undo 3 goes there")
    assert run(kernel, "x") == "3"
    told = shown(kernel, "%undo 4")
    assert (
        "the state that was left is not kept, redo cannot bring it back: other threads were running: " in told
    )
    assert "cannot be had back: other threads were running: " in refused(kernel, "%redo")
    assert run(kernel, "x") == "1"


def test_restore_as_often_as_one_likes_and_files_stay(kernel: Kernel) -> None:
    run(kernel, "y = {'a': 1}")
    shown(kernel, "%snapshot clean --pin")
    for _ in range(2):
        run(kernel, "y['a'] += 1; open('made.csv', 'a').write('x')")
        told = shown(kernel, "%restore clean")
        assert "made.csv" in told
        assert run(kernel, "y['a']") == "1"
    assert run(kernel, "open('made.csv').read()") == "'xx'"
    shown(kernel, "%snapshots drop clean")
    assert "no snapshot 'clean'" in refused(kernel, "%restore clean")


def test_sockets_that_do_not_come_back_are_named(kernel: Kernel) -> None:
    run(kernel, "import socket; left, right = socket.socketpair()")
    shown(kernel, "%snapshot with-socket")
    assert "not in it: descriptor" in shown(kernel, "%restore with-socket")
    run(kernel, "left.close(); right.close()")


def test_two_lines_of_state_and_their_difference(kernel: Kernel) -> None:
    run(kernel, "model = {'depth': 1}; only_main = 1")
    shown(kernel, "%snapshot base")
    assert "begins here" in shown(kernel, "%branch deep")
    run(kernel, "model['depth'] = 9; score = 0.9")
    shown(kernel, "%snapshot deep-done")
    assert "left 'deep' for 'main'" in shown(kernel, "%branch main")
    assert run(kernel, "model, 'score' in globals()") == "({'depth': 1}, False)"
    told = shown(kernel, "%diff base deep-done")
    assert "~ model: dict of 1" in told
    assert "    model['depth']: 1 → 9" in told
    assert "+ score: float" in told
    assert "only_main" not in told
    shown(kernel, "%branch deep")
    assert run(kernel, "model") == "{'depth': 9}"
    shown(kernel, "%branch main")


def test_a_gate_is_set_hit_looked_at_edited_and_resumed(kernel: Kernel) -> None:
    run(kernel, "def area(w, h):\n    'Its size.'\n    return w * h")
    assert "next call of area for which w > 2" in run(kernel, "%gate area if w > 2")
    assert kernel.reply(kernel.kc.complete("%gate off a"))["content"]["matches"] == ["area"]
    assert run(kernel, "areas = [area(w, 10) for w in (1, 2, 3)]; areas") == "[10, 20, 30]"
    number = number_of_copy(kernel)
    stack = shown(kernel, f"%gate show {number}")
    assert "w = 3" in stack
    assert "h = 10" in stack
    assert shown(kernel, f"%gate eval {number} w + h") == "13"
    shown(kernel, f"%gate set {number} h w * 100")
    reply, outputs = kernel.run(f"%gate resume {number}")
    assert reply["content"]["status"] == "ok"
    assert result(outputs) == "[10, 20, 900]"
    count = reply["content"]["execution_count"]
    assert [m["content"]["execution_count"] for m in outputs if m["msg_type"] == "execute_result"] == [count]
    assert run(kernel, "areas[-1]") == "900"
    shown(kernel, f"%gate drop {number}")
    assert f"there is no copy {number} (it may have been dropped); copies made at gates: none" in refused(
        kernel, f"%gate show {number}"
    )


def test_replay_of_the_same_and_of_chance(kernel: Kernel) -> None:
    run(kernel, "import random, os; total = 0")
    steady = kernel.run("total += 1; print('total', total); z = total")[0]["content"]["execution_count"]
    chance = kernel.run("token = os.urandom(8).hex(); print(token)")[0]["content"]["execution_count"]
    run(kernel, "total = 100")
    told = shown(kernel, f"%replay {steady}")
    no_difference, rest = told.splitlines()[1:3], told.splitlines()[3:]
    assert no_difference == ["outputs: no difference", "variables: no difference"]
    assert [line.partition(":")[0] for line in rest] in ([], ["not compared"])  # sockets of the cells before
    assert "total" not in "".join(rest)
    told = shown(kernel, f"%replay {chance}")
    assert "stdout:" in told
    assert "~ token: str of 16" in told
    assert run(kernel, "total") == "100"
    shown(kernel, "%snapshot later")
    told = shown(kernel, f"%replay {steady} --from later")
    assert "-total 1" in told
    assert "+total 101" in told


def test_a_cell_that_is_killed_costs_nothing_and_its_replay_neither(kernel: Kernel) -> None:
    run(kernel, "kept = 'kept'")
    reply, _ = kernel.run("held = bytearray(2 << 30)\nheld[:] = b'x' * len(held)", timeout=60)
    assert reply["content"]["status"] == "error"
    reply, _ = kernel.run("import os; os._exit(3)", timeout=60)
    count = kernel.run("kept")[0]["content"]["execution_count"] - 1
    assert run(kernel, "kept") == "'kept'"
    run(kernel, "kept += '!'")
    assert "it did not end by itself" in shown(kernel, f"%replay {count}")
    assert run(kernel, "kept") == "'kept!'"
    shown(kernel, "%undo 2")
    assert run(kernel, "kept") == "'kept'"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("%restore nothing", "there is no snapshot 'nothing'"),
        ("%undo 999", "cannot be undone"),
        ("%branch main", "is the line that runs now"),
        ("%diff nothing", "there is no snapshot"),
        ("%replay 9999", "did not run in this guest"),
        ("%snapshot 9lives", "is not a name"),
        ("%checkpoint one two", "%checkpoint: unrecognized arguments: two"),
        ("%gate resume 9999", "there is no copy 9999"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_lost(kernel: Kernel, code: str, said: str) -> None:
    run(kernel, "unharmed = 1")
    assert said in refused(kernel, code)
    assert run(kernel, "unharmed") == "1"


def test_a_checkpoint_outlives_its_kernel(tmp_path: Path) -> None:
    with started(cwd=str(tmp_path)) as first:
        run(first, "kept = {'a': [1, 2]}")
        assert shown(first, "%checkpoint later").startswith("kept on disk as 'later': 1 variable")
    with started(cwd=str(tmp_path)) as second:
        assert run(second, "'kept' in globals()") == "False"
        assert second.reply(second.kc.complete("%restore la"))["content"]["matches"] == ["later"]
        said = refused(second, "%restore tuesday")
        assert "no snapshot 'tuesday'" in said and "no checkpoint 'tuesday'; there are 'later'" in said
        assert "later" in shown(second, "%restore later")
        assert run(second, "kept") == "{'a': [1, 2]}"


def test_in_a_cell_with_other_code_they_say_where_they_belong(kernel: Kernel) -> None:
    for code in ("q = 1\n%undo", "q = 1\n%snapshot inside", "q = 1\n%gate resume 1"):
        reply, outputs = kernel.run(code)
        assert reply["content"]["status"] == "error"
        assert "in a cell of its own" in text_of(outputs, "stderr") + str(reply["content"])
    check_alive(kernel)


def test_names_are_completed(kernel: Kernel) -> None:
    shown(kernel, "%snapshot complete-me")
    reply = kernel.reply(kernel.kc.complete("%restore compl"))["content"]
    assert reply["matches"] == ["complete-me"]
    assert "%undo" in kernel.reply(kernel.kc.complete("%und"))["content"]["matches"]


def test_a_paused_guest_goes_on_with_the_next_cell(kernel: Kernel) -> None:
    run(kernel, "p = 1")
    assert shown(kernel, "%pause").startswith("paused;")
    assert run(kernel, "p") == "1"


def press(kernel: Kernel, panel: list[Message], label: str) -> None:
    """The button of a panel, as its front end does; until the panel says that its deed has begun."""
    opened = [m["content"] for m in panel if m["msg_type"] == "comm_open"]
    [button] = [
        content["comm_id"] for content in opened if content["data"]["state"].get("description") == label
    ]
    click = {"comm_id": button, "data": {"method": "custom", "content": {"event": "click"}}}
    message = kernel.kc.session.msg("comm_msg", click)
    kernel.kc.shell_channel.send(message)
    kernel.until(message["header"]["msg_id"], "comm_msg")


def test_a_cell_right_after_undo_in_the_panel_runs_in_what_comes_back(kernel: Kernel) -> None:
    _, panel = kernel.run("%snapshots", timeout=60)
    for _ in range(5):
        run(kernel, "pressed = 'before'")
        run(kernel, "pressed = 'undone'")
        press(kernel, panel, "Undo")
        assert run(kernel, "pressed") == "'before'"


def test_a_cell_that_ran_out_of_memory_says_that_it_can_be_undone(kernel: Kernel) -> None:
    run(kernel, "parts = [1]")
    reply, outputs = kernel.run("parts.append('half'); much = bytearray(10**10)", timeout=60)
    assert reply["content"]["ename"] == "MemoryError"
    said = text_of(outputs, "stderr")
    assert said.endswith("as the cell left them. `%undo` brings back the state before the cell.]\n"), said
    shown(kernel, "%undo")
    assert run(kernel, "parts") == "[1]"


def test_an_interrupt_ends_a_checkpoint(kernel: Kernel) -> None:
    run(
        kernel,
        "import time\nclass Slow:\n    def __reduce__(self):\n        time.sleep(10)\n        return int, (1,)",
    )
    run(kernel, "slow, x = Slow(), 5")
    cell = kernel.kc.execute("%checkpoint slow-one")
    kernel.until(cell, "execute_input")
    kernel.km.interrupt_kernel()
    assert kernel.finish(cell)[0]["content"]["ename"] == "KeyboardInterrupt"
    assert "no checkpoint 'slow-one'" in refused(kernel, "%restore slow-one")
    assert run(kernel, "del slow; x") == "5"
    assert "kept on disk as 'slow-one'" in shown(kernel, "%checkpoint slow-one"), "the control"


def test_a_killed_kernels_checkpoint_is_offered_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "work.ipynb"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with started(cwd=str(tmp_path)) as kernel:
        run(kernel, "kept = [1, 2, 3]")
        shown(kernel, "%checkpoint monday")
        os.kill(front_of(kernel), signal.SIGKILL)
        kernel.km.provisioner.process.wait(PATIENCE)
        kernel.km.restart_kernel(now=True)
        kernel.kc.wait_for_ready(timeout=PATIENCE)
        first, second = (kernel.run("'kept' in globals()", timeout=60)[1] for _ in range(2))
        told = [m["content"]["text"] for m in first if m["msg_type"] == "stream"]
        assert len(told) == 1
        assert not [m for m in second if m["msg_type"] == "stream"]
        assert told[0].startswith("[kernel_runtime: a checkpoint of ")
        assert told[0].endswith("(1 variable): %restore monday brings it back]\n")
        shown(kernel, "%restore monday")
        assert run(kernel, "kept") == "[1, 2, 3]"

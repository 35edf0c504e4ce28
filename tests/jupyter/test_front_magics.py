"""Magics that the front answers: in the line of cells, without the guest's help."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.magics import FRONT
from kernel_runtime.jupyter import sandbox_states
from kernel_runtime.jupyter.bench import MAGICS
from tests.jupyter.kernels import PATIENCE, Kernel, kinds, running, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def lasting() -> Iterator[Kernel]:
    """One for all tests that leave its state alone."""
    with running() as found:
        yield found


def shown(kernel: Kernel, code: str, kind: str = "text/plain") -> str:
    """What a cell of front magics displays; it must end well."""
    reply, outputs = kernel.run(code)
    assert reply["content"]["status"] == "ok", reply["content"]
    return "\n".join(m["content"]["data"][kind] for m in outputs if m["msg_type"] == "display_data")


def refused(kernel: Kernel, code: str) -> str:
    """The one plain line of its error."""
    reply, outputs = kernel.run(code)
    assert reply["content"]["status"] == "error"
    assert kinds(outputs)[-1] == "error"
    assert len(reply["content"]["traceback"]) == 1
    assert "\n" not in reply["content"]["evalue"]
    return f"{reply['content']['ename']}: {reply['content']['evalue']}"


def in_line(kernel: Kernel, first: str, *others: str) -> list[str]:
    """How cells end of which the ``others`` have come while the first one ran."""
    cells = [kernel.kc.execute(f"ask when?\n{first}", allow_stdin=True)]
    cells += [kernel.kc.execute(code) for code in others]
    kernel.ask("shell", "kernel_info_request")  # behind them all on the same socket: they have arrived
    kernel.kc.get_stdin_msg(timeout=PATIENCE)
    kernel.kc.input("now")
    return [kernel.reply(cell)["content"]["status"] for cell in cells]


def completed(kernel: Kernel, code: str) -> tuple[list[str], str]:
    """Matches, and the text that each would take the place of."""
    reply = kernel.reply(kernel.kc.complete(code))["content"]
    return reply["matches"], code[reply["cursor_start"] : reply["cursor_end"]]


@pytest.mark.parametrize(
    "code",
    [
        "%undo",
        "  %undo 2 ",
        "%undo\n%redo",
        "# back\n%undo\n\n",
        "%undo?",
        "?%undo",
        "%gate show 3",
        "%gate?",
    ],
)
def test_a_cell_of_front_magics_only_is_the_fronts(code: str) -> None:
    assert MAGICS.recognise(code) is not None


@pytest.mark.parametrize(
    "code",
    [
        "",
        "# %undo",
        "x = 1\n%undo",
        "%undo\nx = 1",
        "%time",
        "%undone",
        "%%undo",
        "undo",
        "%gate f",
        "%gate off f",
        "%gate show",
        "%gate show ٣",
        "%gate f if x > 3",
        "%gate",
        "100 %undo",
    ],
)
def test_every_other_cell_is_the_guests(code: str) -> None:
    assert MAGICS.recognise(code) is None


def test_every_magic_that_the_guest_sends_here_is_known_here() -> None:
    assert {name for name in FRONT if MAGICS.recognise(f"%{name}") is not None} == {*FRONT} - {"limits"}


def test_undo_and_redo_say_what_the_state_is(kernel: Kernel) -> None:
    for code in ("say a", "say b", "say c"):
        kernel.run(code)
    assert shown(kernel, "%undo 2") == (
        "undid the last 2 cells: the state is the one after cell 1 (9 ms)\nno files were written since"
    )
    assert "after cell 3" in shown(kernel, "%redo")
    assert refused(kernel, "%redo").startswith("NotFound: there is nothing to redo")
    assert refused(kernel, "%undo 9") == "NotFound: 9 cells cannot be undone"


def test_counts_go_on_and_the_magics_are_in_the_history(kernel: Kernel) -> None:
    first, _ = kernel.run("say a")
    undone, outputs = kernel.run("%undo")
    count = first["content"]["execution_count"] + 1
    assert undone["content"]["execution_count"] == count
    assert outputs[0]["content"] == {"code": "%undo", "execution_count": count}
    assert kernel.run("say a")[0]["content"]["execution_count"] == count + 1
    history = kernel.ask("shell", "history_request", {"hist_access_type": "tail", "n": 2})["history"]
    assert [line[2] for line in history] == ["%undo", "say a"]


def test_they_wait_for_the_cells_before_them(kernel: Kernel) -> None:
    kernel.run("say a")
    assert in_line(kernel, "say b", "%snapshot after") == ["ok", "ok"]
    assert "after  (after cell 3" in shown(kernel, "%snapshots")


def test_an_error_before_them_aborts_them_and_theirs_what_comes_after(kernel: Kernel) -> None:
    assert in_line(kernel, "raise", "%snapshot a", "say b") == ["error", "aborted", "aborted"]
    assert in_line(kernel, "say a", "%restore nothing", "say b") == ["ok", "error", "aborted"]


def test_several_lines_are_performed_until_one_fails(kernel: Kernel) -> None:
    text = shown(kernel, "%snapshot a\n# then\n%snapshot b --pin")
    assert text.splitlines() == [
        "'a': the state after cell 0 (0 ms)",
        "'b': the state after cell 0, pinned (0 ms)",
    ]
    assert "dropped the snapshot oldest" in shown(kernel, "%snapshot one-too-many")
    assert "'nothing'" in refused(kernel, "%snapshot c\n%restore nothing\n%snapshot d")
    listing = shown(kernel, "%snapshots")
    assert "· c" in listing or "→ c" in listing
    assert " d " not in listing


def test_restore_tells_what_is_not_as_it_was(kernel: Kernel) -> None:
    kernel.run("socket")
    kernel.run("%snapshot before-write")
    kernel.run("say x")
    assert shown(kernel, "%restore before-write --reseed").splitlines() == [
        "restored 'before-write', the state after cell 1 (9 ms)",
        "files that were written since stay written: /tmp/x.csv",
        "not in it: descriptor 5: a socket",
    ]


@pytest.mark.parametrize("going", ["%undo", "%restore 1"])
def test_it_is_told_when_there_will_be_no_redo(kernel: Kernel, going: str) -> None:
    """With the reason, which is the guest's word: no terminal acts on it."""
    kernel.run("thread")
    told = shown(kernel, going).splitlines()
    assert told[2] == (
        "the state that was left is not kept, redo cannot bring it back: other threads were running: a [31mb"
    )
    kernel.run("say x")
    assert "not kept" not in shown(kernel, going), "the control"


def test_snapshots_are_shown_as_text_and_table_and_changed(kernel: Kernel) -> None:
    assert shown(kernel, "%snapshots") == "none yet"
    kernel.run("say a")
    kernel.run("%snapshot clean")
    text = shown(kernel, "%snapshots")
    assert "→ clean  (after cell 1, main)" in text
    table = shown(kernel, "%snapshots", "text/html")
    assert "<table" in table
    assert "clean" in table
    beside = shown(kernel, "%snapshots\n%snapshots", "text/html")  # not alone: a table, and no panel
    assert beside.startswith("<table>")
    assert "<td>clean</td>" in beside
    assert "pinned 'clean'" in shown(kernel, "%snapshots pin clean")
    assert "unpinned 'clean'" in shown(kernel, "%snapshots unpin clean")
    assert shown(kernel, "%snapshots drop clean") == "dropped 'clean'"
    assert "there is no snapshot 'clean'" in refused(kernel, "%snapshots drop clean")
    assert "which one?" in refused(kernel, "%snapshots pin")


def test_branches_are_begun_listed_and_left(kernel: Kernel) -> None:
    assert shown(kernel, "%branch") == "→ main"
    assert shown(kernel, "%branch trees").startswith("'trees' begins here; %branch main goes back")
    kernel.run("say a")
    assert shown(kernel, "%branch") == "· main\n→ trees"
    assert "left 'trees' for 'main', the state after the start" in shown(kernel, "%branch main")


def test_a_difference_is_text_and_a_table_in_which_nothing_is_markup(kernel: Kernel) -> None:
    kernel.run("%snapshot a")
    kernel.run("say x")
    assert "+ say x: <b>str</b>" in shown(kernel, "%diff a")
    table = shown(kernel, "%diff a", "text/html")
    assert "&lt;b&gt;str" in table
    assert "<b>" not in table
    assert "1 added" in shown(kernel, "%diff a")
    assert "not compared" not in table
    kernel.run("say file")
    assert shown(kernel, "%diff a").endswith("\nnot compared: <i>f (File)")
    assert "<p>not compared: &lt;i&gt;f (File)</p>" in shown(kernel, "%diff a", "text/html")


def test_an_interrupt_ends_a_diff(kernel: Kernel) -> None:
    kernel.run("%snapshot a")
    cell = kernel.kc.execute("%diff endless")
    kernel.until(cell, "execute_input")
    kernel.km.interrupt_kernel()
    reply, _ = kernel.finish(cell)
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert "now" in shown(kernel, "%diff a"), "the next one goes on"


def test_pause(kernel: Kernel) -> None:
    assert shown(kernel, "%pause") == "paused; 3 MB of memory given back; the next cell goes on"


def test_a_checkpoint_is_written_and_comes_back(kernel: Kernel) -> None:
    said = shown(kernel, "%checkpoint kept")
    assert said.startswith(
        "kept on disk as 'kept': 2 variables (3 MB, 1 MB of it new on disk)\nnot kept: lock ("
    )
    assert "\x1b" not in said
    assert "kept on disk as 'both'" in shown(kernel, "%snapshot both --durable")
    back = shown(kernel, "%restore kept")
    assert back.startswith("1 variable of checkpoint 'kept' is back; %undo takes that back")
    assert "not back: y (it has changed)" in back
    assert "own" not in back


def test_that_undo_takes_a_checkpoint_back_is_said_where_it_does(kernel: Kernel) -> None:
    kernel.run("thread")
    back = shown(kernel, "%restore kept")
    assert back.startswith(
        "1 variable of checkpoint 'kept' is back; %undo cannot take that back: other threads were running: a"
    )
    assert "\x1b" not in back


def test_a_snapshot_that_does_not_come_to_disk_is_told_to_be_kept_in_memory(kernel: Kernel) -> None:
    reply, _ = kernel.run("%snapshot no-room --durable")
    assert reply["content"]["ename"] == "StorageFailed"
    assert reply["content"]["evalue"] == (
        "the snapshot 'no-room' is kept in memory, but not on disk: the pack: No space left on device. "
        "When that is mended, `%checkpoint no-room` keeps the present state on disk"
    )
    assert "no-room" in shown(kernel, "%snapshots drop no-room")


def test_whose_checkpoint_came_back_is_told(kernel: Kernel) -> None:
    back = shown(kernel, "%restore theirs")
    assert "it is not this notebook's own: other" in back and "has kept it" in back
    assert "\x1b" not in back


def test_a_name_that_nothing_has_is_told_with_what_there_is(kernel: Kernel) -> None:
    kernel.run("%snapshot clean")
    said = refused(kernel, "%restore tuesday")
    assert "no snapshot 'tuesday'" in said and "clean" in said
    assert "On disk: there is no checkpoint 'tuesday'; there are 'kept', 'theirs'" in said


def test_a_snapshot_goes_before_a_checkpoint_of_its_name(kernel: Kernel) -> None:
    kernel.run("%snapshot kept")
    assert "checkpoint" not in shown(kernel, "%restore kept")


def test_options_for_checkpoints_mean_one_though_a_snapshot_is_called_so(kernel: Kernel) -> None:
    kernel.run("%snapshot kept")
    assert shown(kernel, "%restore kept --var a --var b").startswith(
        "2 variables of checkpoint 'kept' are back"
    )
    assert shown(kernel, "%restore kept --force").startswith("1 variable of checkpoint 'kept' is back")
    assert refused(kernel, "%restore tuesday --force").startswith("NotFound: there is no checkpoint")


def test_gates_are_shown_asked_and_resumed(kernel: Kernel) -> None:
    assert shown(kernel, "%gates") == "#7  in f, line 2, of cell 3"
    assert shown(kernel, "%gate eval 7 x -1") == "value of x -1"
    assert refused(kernel, "%gate eval 7 1/0") == "Invalid: 1/0: ZeroDivisionError: division by zero"
    assert shown(kernel, "%gate set 7 a = [1, 2]") == "a will be [1, 2] when %gate resume 7 goes on"
    stack = shown(kernel, "%gate show 7")
    assert stack.splitlines()[:2] == ["f, line 2", "    a = [1, 2]"]
    assert "\x1b" not in stack
    reply, outputs = kernel.run("%gate resume 7")
    assert text_of(outputs) == "resumed with {'a': '[1, 2]'}\n"
    assert reply["content"]["status"] == "ok"
    assert "was not made at a gate" in refused(kernel, "%gate show 8")
    assert "which expression?" in refused(kernel, "%gate eval 7")


def test_replay_compares_and_leaves_the_state_alone(kernel: Kernel) -> None:
    count = kernel.run("say a\nnumber")[0]["content"]["execution_count"]
    kernel.run("say b")
    before = shown(kernel, "%snapshots").count("\n")
    assert shown(kernel, f"%replay {count}").splitlines() == [
        f"cell {count} again, on the state at the start:",
        "outputs: no difference",
        "variables: no difference",
    ]
    assert shown(kernel, "%snapshots").count("\n") == before
    kernel.run("%snapshot here")
    assert "after cell 3" in shown(kernel, "%snapshots")


def test_replay_on_another_state_shows_what_differs(kernel: Kernel) -> None:
    count = kernel.run("say a")[0]["content"]["execution_count"]
    kernel.run("%snapshot other")
    assert "variables:" in shown(kernel, f"%replay {count} --from other")
    kernel.run(f"%snapshots drop {count}")
    assert "is not kept any more" in refused(kernel, f"%replay {count}")
    assert "did not run in this guest" in refused(kernel, "%replay 99")


def test_which_cells_can_be_replayed_is_told_without_those_of_magics(kernel: Kernel) -> None:
    first = kernel.run("say a")[0]["content"]["execution_count"]
    kernel.run("say b")
    kernel.run("%snapshots")
    kernel.run("say c")
    said = refused(kernel, f"%replay {first + 2}")
    assert said.endswith(
        f"cell {first + 2} did not run in this guest; known cells: {first} to {first + 1}, {first + 3}"
    )
    for _ in range(13):
        kernel.run("%snapshots")
        last = kernel.run("say d")[0]["content"]["execution_count"]
    said = refused(kernel, "%replay 999")
    assert said.endswith(f"known cells: …, {', '.join(str(last - 2 * back) for back in reversed(range(12)))}")


def test_replay_of_a_cell_that_dies_comes_back(kernel: Kernel) -> None:
    kernel.run("say a")
    count = kernel.run("die memory")[0]["content"]["execution_count"]
    text = shown(kernel, f"%replay {count}")
    assert "it did not end by itself" in text
    assert "variables: not compared" in text
    assert "after cell 2" in shown(kernel, "%snapshot here")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "%undo many",
            "%undo: argument N: 'many' is not a whole number, like 3; `%undo?` shows how it is used",
        ),
        ("%undo ²", "'²' is not a whole number"),
        ("%undo ٣", "'٣' is not a whole number"),
        ("%replay ²", "'²' is not a whole number"),
        ("%restore ²", "there is no snapshot '²'"),
        ("%snapshots drop ٣", "there is no snapshot '٣'"),
        ("%diff #²", "there is no snapshot '#²'"),
        ("%snapshot ²", "'²' is not a name"),
        ("%restore", "the following arguments are required: NAME"),
        ("%restore a --nothing", "unrecognized arguments: --nothing"),
        ("%snapshots burn a", "invalid choice: 'burn'"),
        ("%snapshot 1st", "'1st' is not a name"),
        ("%diff a b c", "unrecognized arguments: c"),
        ("%snapshot 'a", "No closing quotation"),
        ("%replay", "required: N"),
    ],
)
def test_bad_input_is_one_plain_line(lasting: Kernel, code: str, said: str) -> None:
    assert said in refused(lasting, code)


@pytest.mark.parametrize("name", sorted(set(FRONT) - {"limits"} | {"gate"}))
def test_each_has_help(lasting: Kernel, name: str) -> None:
    text = shown(lasting, f"%{name}?")
    assert text.startswith(f"usage: %{name}")
    assert "\x1b" not in text


@pytest.mark.parametrize("words", ["?", "??", "-h", "--help", "  -h  "])
@pytest.mark.parametrize("name", ["undo", "restore", "gate", "snapshots"])
def test_help_is_asked_for_in_any_way(name: str, words: str) -> None:
    (call,) = MAGICS.recognise(f"%{name} {words}") or [None]
    assert call is not None and call.help
    found = sandbox_states.recognise(f"{name} {words}")
    assert found is not None and found[0].help


def test_names_options_and_snapshots_are_completed(kernel: Kernel) -> None:
    kernel.run("%snapshot clean")
    assert completed(kernel, "%und") == (["guest", "%undo"], "%")
    matches, word = completed(kernel, "%restore cl")
    assert (matches, word) == (["clean"], "cl")
    assert completed(kernel, "%restore --")[0] == ["--force", "--reseed", "--var"]
    assert completed(kernel, "%restore ")[0] == ["--force", "--reseed", "--var", "clean", "kept"]
    assert completed(kernel, "%restore --var x k")[0] == ["kept"]
    assert completed(kernel, "%restore kept --var x --v")[0] == ["--var"]
    assert completed(kernel, "%restore --var k")[0] == []
    assert completed(kernel, "%restore k")[0] == ["kept"]
    assert completed(kernel, "x = 1\n%snapshots d")[0] == ["drop"]
    assert completed(kernel, "%snapshots drop c")[0] == ["clean"]
    assert completed(kernel, "%gate resume ")[0] == ["7"]
    assert completed(kernel, "%gate off f")[0] == ["guest"], "what has a gate is the guest's to know"
    assert completed(kernel, "%time cl")[0] == ["guest"]


def test_when_no_guest_can_be_had_they_say_why() -> None:
    with running(env={"SCRIPTED_NO_WALL": "1", "SCRIPTED_START": "100"}) as kernel:
        reply, _ = kernel.run("%undo")
        assert reply["content"]["ename"] == "WallUnavailable"


def test_silent_cells_show_nothing(kernel: Kernel) -> None:
    reply, outputs = kernel.run("%snapshot a", silent=True)
    assert reply["content"]["status"] == "ok"
    assert outputs == []

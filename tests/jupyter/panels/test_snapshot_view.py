"""The panel of snapshots: what it offers, does and says; its board is a stand-in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Conflict
from kernel_runtime.jupyter.panels.differences import Difference
from kernel_runtime.jupyter.panels.snapshots import open_panel, recognise
from tests.jupyter.panels.boards import HOSTILE, FakeBoard, sample, stage
from tests.jupyter.panels.guests import press

if TYPE_CHECKING:
    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.jupyter.panels.snapshot_view import SnapshotView


async def opened(
    board: FakeBoard, diff: Any = None, written: Any = None
) -> tuple[SnapshotView, Any, dict[str, Any]]:
    place, ear, _ = stage()
    bundle = await open_panel(place, board, b"{}", diff, written)
    ((view, _),) = place._panels.values()
    return view, ear, bundle


def test_the_magic():
    assert recognise(" %snapshots\n")
    assert not recognise("%snapshots2")
    assert not recognise("x = 1\n%snapshots")


def test_nothing_is_offered_before_something_is_chosen():
    async def story():
        view, _, _ = await opened(sample())
        assert view._choice.value is None
        for button in (view._restore, view._pin, view._drop, view._branch, view._undo, view._redo):
            assert button.disabled, button.description
        view._choice.value = 3
        for button in (view._restore, view._pin, view._drop, view._branch):
            assert not button.disabled, button.description
        view._choice.value = 2
        assert view._drop.disabled, "what is pinned is not dropped"
        assert view._pin.description == "Unpin"

    asyncio.run(story())


def test_a_copy_made_at_a_gate_is_marked_and_not_gone_back_to():
    async def story():
        board = sample()
        at_gate = board.add(cell=3, gate=f"f, line 2 {HOSTILE}")
        view, _, bundle = await opened(board)
        for html in (view._picture.value, bundle["text/html"]):
            assert html.count(">gate</i>") == 1
            assert "<script" not in html
        view._choice.value = at_gate.number
        assert "at a gate in cell 3" in view._choice.options[0][0]
        for button in (view._restore, view._branch, view._name):
            assert button.disabled, button.description
        for button in (view._pin, view._drop):
            assert not button.disabled, button.description
        view._choice.value = 3
        assert not view._restore.disabled, "the control"

    asyncio.run(story())


def test_each_deed_is_done_on_the_chosen_one_and_told():
    async def story():
        board = sample()
        view, _, _ = await opened(board)
        view._choice.value = 3
        assert "#3 is back after 12 ms; files" in await press(view._acting, view._restore)
        assert "#3 is kept" in await press(view._acting, view._pin)
        assert "no longer pinned" in await press(view._acting, view._pin)
        view._name.value = "other"
        assert "The line other begins at #3; main stays" in await press(view._acting, view._branch)
        assert view._name.value == ""
        assert "The line line-2 begins at #3; other stays" in await press(view._acting, view._branch)
        assert "#3 is dropped" in await press(view._acting, view._drop)
        assert board.asked == [
            ("restore", 3), ("pin", 3, True), ("pin", 3, False), ("branch", "other", 3),
            ("branch", "line-2", 3), ("drop", 3),
        ]  # fmt: skip
        assert view._choice.value is None
        assert view._restore.disabled

    asyncio.run(story())


def test_a_line_is_switched_to():
    async def story():
        board = sample()
        view, _, _ = await opened(board)
        assert view._switching.layout.display == "none"
        board.lines = ["main", "other"]
        view._draw()
        assert view._switching.layout.display is None
        said = await press(view._acting, view._switch)
        assert "The line other goes on where it was left after 7 ms; files" in said
        assert "stay written; not in it: a socket; open files: log." in said
        assert board.asked == [("branch", "other")]

    asyncio.run(story())


def test_what_is_not_as_it_was_is_told_as_the_magics_tell_it():
    async def story():
        asked: list[int] = []

        async def written(number: int) -> list[str]:
            asked.append(number)
            if number == 2:
                raise Conflict("it does not answer")
            return ["/tmp/x.csv", HOSTILE] if number == 3 else []

        board = sample()
        view, _, _ = await opened(board, written=written)
        view._choice.value = 3
        said = await press(view._acting, view._restore)
        assert "files that were written since stay written: /tmp/x.csv, &lt;/bdi&gt;" in said
        assert said.endswith("; not in it: a socket.</span>")
        view._choice.value = 4
        assert "no files were written since" in await press(view._acting, view._restore)
        view._choice.value = 2
        said = await press(view._acting, view._branch)
        assert "files that were written since stay written; not in it: a socket" in said
        assert asked == [3, 4, 2]

    asyncio.run(story())


def test_errors_are_one_plain_sentence(capsys):
    async def story():
        board = sample()
        board.busy, board.undoable, board.redoable = True, 1, 1
        view, _, _ = await opened(board)
        view._choice.value = 3
        said = await press(view._acting, view._restore)
        assert 'role="alert">A cell is running: interrupt it first, or wait for its end.<' in said
        assert "kr-error" in view._acting.said._dom_classes
        assert "There is nothing to redo" in await press(view._acting, view._redo)
        assert "It did not work (ZeroDivisionError)." in await press(view._acting, view._undo)
        assert not view._undo.disabled, "the panel goes on"
        view._name.value = "main"
        assert "a line &#x27;main&#x27; already" in await press(view._acting, view._branch)

    asyncio.run(story())
    assert "a bug" in capsys.readouterr().err


def test_it_is_told_when_there_will_be_no_redo():
    async def story():
        board = sample()
        view, _, _ = await opened(board)
        view._choice.value = 3
        assert "redo" not in await press(view._acting, view._restore)
        board.unkept = "other threads were running: <b>"
        said = await press(view._acting, view._restore)
        assert (
            "the state that was left is not kept, redo cannot bring it back: other threads were running: &lt;b&gt;"
            in said
        )

    asyncio.run(story())


def test_a_second_deed_waits_for_no_first():
    async def story():
        board = sample()
        board.gate = asyncio.Event()
        view, _, _ = await opened(board)
        view._choice.value = 3
        view._restore.click()
        await asyncio.sleep(0)
        assert view._restore.disabled
        view._restore.click()
        board.gate.set()
        await view._acting.task
        assert board.asked == [("restore", 3)]
        assert not view._restore.disabled

    asyncio.run(story())


def test_it_follows_what_happens_and_keeps_the_choice():
    async def story():
        board = sample()
        view, ear, _ = await opened(board)
        view._choice.value = 3
        ear.heard.clear()
        for number in range(20):
            board.add(name=f"cell{number}", made=1e9)
        assert not ear.heard, "changes that come together are drawn together"
        async with asyncio.timeout(30):
            while "cell19" not in view._picture.value:
                await asyncio.sleep(0.01)
        assert view._choice.value == 3
        drawn = [
            each for each in ear.contents("comm_msg") if "cell19" in str(each["data"]["state"].get("value"))
        ]
        assert len(drawn) == 1
        board.drop(3)
        board.changed()
        async with asyncio.timeout(30):
            while view._choice.value is not None:
                await asyncio.sleep(0.01)

    asyncio.run(story())


def test_what_is_saved_where_no_widgets_live():
    async def story():
        _, _, bundle = await opened(sample())
        plain = bundle["text/plain"]
        assert "4 snapshots, 8.58 MB of 2 GB" in plain
        assert "→ #3" in plain
        assert "loaded" in bundle["text/html"]
        assert "<svg" in bundle["text/html"]
        assert "<script" not in bundle["text/html"]

    asyncio.run(story())


def test_two_snapshots_are_compared_older_first():
    async def story():
        asked: list[tuple[int, int]] = []

        async def diff(first: Snapshot, second: Snapshot) -> list[Difference]:
            asked.append((first.number, second.number))
            return [Difference(name="x", change="changed", before="int 1", after="int 2")]

        view, _, _ = await opened(sample(), diff)
        assert view._comparing.layout.display is None
        view._choice.value = 3
        assert 3 not in [number for _, number in view._others.options]
        view._others.value = 1
        assert "1 variable differs from #1 to #3" in await press(view._acting, view._compare)
        assert asked == [(1, 3)]
        assert "int 2" in view._difference.value

    asyncio.run(story())


def test_without_a_diff_nothing_is_compared():
    async def story():
        view, _, _ = await opened(sample())
        assert view._comparing.layout.display == "none"

    asyncio.run(story())


def test_hostile_words_are_only_text_everywhere():
    async def story():
        async def diff(*_: Snapshot) -> list[Difference]:
            return [Difference(name=HOSTILE, change="added", after=HOSTILE)]

        board = sample()
        board.add(name=HOSTILE, line=HOSTILE, external=[HOSTILE])
        view, ear, bundle = await opened(board, diff)
        view._choice.value = 5
        await press(view._acting, view._compare)
        await press(view._acting, view._restore)
        await press(view._acting, view._drop)
        html = [str(widget) for widget in (view._head.value, view._picture.value, view._acting.said.value)]
        html += [view._difference.value, bundle["text/html"]]
        said = "".join(html)
        assert "&lt;script&gt;" in said, "the words are there"
        assert "<script" not in said
        assert "<img" not in said
        told = [each["data"]["state"] for each in ear.contents("comm_open") + ear.contents("comm_msg")]
        assert not any(state.get("description_allow_html") for state in told)
        raw = [state for state in told if "<script" in str(state.get("value"))]
        assert not raw

    asyncio.run(story())


def test_a_closed_panel_listens_no_more():
    async def story():
        board = sample()
        view, ear, _ = await opened(board)
        assert board.watched == 1
        view.close()
        assert board.watched == 0
        ear.heard.clear()
        view._draw_soon()
        assert view._timer is None

    asyncio.run(story())

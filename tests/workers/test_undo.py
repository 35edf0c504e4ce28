"""Undo goes over as many cells as it is told, or says why it cannot; what cannot be had back is told when it is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.domain.errors import Conflict, NotFound
from kernel_runtime.domain.snapshot import Budget
from tests.workers.branches import inner_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import kernel_runtime

_THREAD = """
import threading
stop = threading.Event()
worker = threading.Thread(target=stop.wait, name="worker", daemon=True)
worker.start()
"""
_HOOK = """
from kernel_runtime.sdk import branches
@branches.before_snapshot
def refuse(): raise ValueError("not now")
"""
_NONE = "cannot be undone, there is no snapshot before: "


@pytest.mark.parametrize(
    ("code", "why"),
    [(_THREAD, "other threads were running: Python thread 'worker'"), (_HOOK, ".*not now")],
    ids=["thread", "hook"],
)
def test_cells_before_which_there_was_no_snapshot(
    session: kernel_runtime.Session, code: str, why: str
) -> None:
    session.run("x = [1]")
    session.run(code)
    for number in (2, 3, 4):
        session.run(f"x.append({number})")
    for cells, called in ((1, "the last cell"), (2, "the last 2 cells"), (3, "the last 3 cells")):
        newest = "the newest before that is the state after cell 1: undo 4 goes there"
        with pytest.raises(Conflict, match=f"{called} {_NONE}{why}.*; {newest}"):
            session.undo(cells)
    with pytest.raises(NotFound, match="9 cells cannot be undone: the present state contains 5"):
        session.undo(9)
    assert session.value("x") == [1, 2, 3, 4], "nothing has changed"


def test_what_redo_cannot_bring_back_is_told_when_it_is_left(session: kernel_runtime.Session) -> None:
    why = "other threads were running: Python thread 'worker'"
    session.run("x = 1")
    session.run(_THREAD)
    session.run("x = 2")
    assert session.undo(2).unkept == why
    assert session.value("x") == 1
    with pytest.raises(Conflict, match=f"the state that was left cannot be had back: {why}"):
        session.redo()
    session.snapshot("here")
    session.run(_THREAD)
    assert session.restore("here").unkept == why
    session.run("x = 3")
    with pytest.raises(NotFound, match="nothing to redo"):
        session.redo()
    assert session.undo().unkept == "", "the control"
    session.redo()
    assert session.value("x") == 3


def test_cells_before_which_a_snapshot_did_not_pay(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(snapshots=Budget(pause=0, share=0))
    for number in range(8):
        session.run(f"x = {number}")
    assert inner_of(session).snapshots.undoable == 8
    with pytest.raises(
        Conflict, match=_NONE + "it costs more than it saves at this size .*: undo 7 goes there"
    ):
        session.undo()
    assert session.value("x") == 7
    assert session.undo(7).unkept == ""
    assert session.value("x") == 0
    session.redo()
    assert session.value("x") == 7


@pytest.mark.parametrize("warned", [{}, {"on_warning": print}], ids=["on stderr", "elsewhere"])
def test_that_there_is_no_snapshot_before_a_cell_is_told_once(
    open_session: Callable[..., kernel_runtime.Session], warned: dict[str, Any]
) -> None:
    """Whoever wants to be warned of limits elsewhere is told here, too."""
    session = open_session(snapshots=Budget(pause=0, share=0), **warned)
    told = "".join(session.run(f"x = {number}").stderr for number in range(8))
    assert told.count("no automatic snapshot before this cell: it costs more than it saves") == 1


def test_cells_whose_snapshots_are_not_kept_any_more(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(snapshots=Budget(pause=60, automatic=2))
    for number in range(4):
        session.run(f"x = {number}")
    with pytest.raises(
        Conflict, match=_NONE + "it has been dropped; the oldest is the state after cell 2: undo 2 "
    ):
        session.undo(3)
    session.undo(2)
    assert session.value("x") == 1


def test_a_killed_cell_is_none_to_be_undone(session: kernel_runtime.Session) -> None:
    """Nor are those that are lost with it: undo goes on from the state that came back."""
    session.run("x = 1")
    session.run("x = 2")
    session.run(_THREAD)
    result = session.run("import os; x = 3; os._exit(1)", check=False)
    assert result.verdict is not None
    assert result.verdict.state == "The variables are as they were after cell 2."
    assert session.value("x") == 2
    session.undo()
    assert session.value("x") == 1
    session.redo()
    session.snapshot("mine")
    session.run("x = 4")
    session.restore("mine")
    session.undo()
    assert session.value("x") == 1, "the last cell that the restored state contains"


def test_where_a_line_was_left_is_not_dropped_by_mistake(session: kernel_runtime.Session) -> None:
    session.run("x = 'main'")
    session.branch("other")
    head = next(one for one in session.snapshots() if one.pinned)
    with pytest.raises(Conflict, match="is where the line 'main' was left: unpin it first"):
        session.drop(head.number)
    session.snapshot("mine", pin=True)
    session.drop("mine")
    assert session.lines == ["main", "other"]
    session.pin(head.number, False)
    session.drop(head.number)
    assert session.lines == ["other"]


def test_each_line_has_cells_of_its_own_to_be_undone(session: kernel_runtime.Session) -> None:
    session.run("x = ['both']")
    session.branch("other")
    session.run("x.append('other')")
    session.branch("main")
    session.run("x.append('main')")
    session.branch("other")
    for left in (["both"], None):
        session.undo()
        assert session.run("globals().get('x')").result == (None if left is None else repr(left))
        session.undo()  # of the run that looked
    session.branch("main")
    assert session.value("x") == ["both", "main"]
    session.undo()
    assert session.value("x") == ["both"]

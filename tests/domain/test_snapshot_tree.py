"""The tree of a session's snapshots, without a session: each change gives another tree and leaves the old one as it was."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.errors import Conflict, Invalid, NotFound
from kernel_runtime.domain.snapshot import Budget, Snapshot, show_tree
from kernel_runtime.domain.snapshot_tree import MOST_MARKS, Mark, Tree


def with_cells(cells: int, tree: Tree | None = None, first: int = 1) -> Tree:
    """After so many cells, each with the snapshot before it."""
    tree = tree or Tree()
    for number in range(first, first + cells):
        tree = tree.began(Mark(number)).grown(Snapshot(number=number, automatic=True, cell=tree.cell))
        tree = tree.before_cell(number, number).ran(number)
    return tree


def with_bare_cells(cells: int, tree: Tree, why: str = "a thread") -> Tree:
    """So many more, before which there was no snapshot."""
    for _ in range(cells):
        tree = tree.began(Mark(why=why)).ran(tree.cell + 1)
    return tree


def marks(*numbers: int) -> tuple[Mark, ...]:
    return tuple(map(Mark, numbers))


def named(number: int, name: str, **fields: Any) -> Snapshot:
    return Snapshot(number=number, name=name, **fields)


def parents(tree: Tree) -> dict[int, int | None]:
    return {number: snapshot.parent for number, snapshot in tree.known.items()}


def test_each_snapshot_comes_from_the_one_before() -> None:
    tree = with_cells(3)
    assert parents(tree) == {1: None, 2: 1, 3: 2}
    assert (tree.base, tree.cell, tree.past) == (3, 3, marks(1, 2, 3))
    assert tree.pasts == {1: (), 2: marks(1), 3: marks(1, 2)}
    assert tree.befores == {1: 1, 2: 2, 3: 3}
    assert [each.number for each in tree.ancestors()] == [3, 2, 1]


def test_a_copy_at_a_gate_lies_aside_and_what_resumes_it_goes_on_from_its_parent() -> None:
    tree = with_cells(1).grown(Snapshot(number=9, gate="f, line 3", cell=2))
    assert tree.base == 1
    assert parents(tree)[9] == 1
    resumed = with_cells(1, tree, first=10).back_at(tree.known[9])
    assert (resumed.base, resumed.cell) == (1, 2)


def test_children_of_one_that_is_dropped_hang_on_its_parent() -> None:
    tree = with_cells(4)
    assert parents(tree.without([2, 3])) == {1: None, 4: 1}
    assert tree.without([3, 4]).base == 2
    assert tree.without([1, 2, 3, 4]).base is None
    assert tree.without([2]).past == marks(1, 2, 3, 4), "its cell is there still"
    assert tree.without([2]).pasts.keys() == {1, 3, 4}
    assert tree.without([2]).befores == {1: 1, 3: 3, 4: 4}
    assert parents(tree) == {1: None, 2: 1, 3: 2, 4: 3}, "the old tree is as it was"


def test_what_is_not_known_changes_nothing() -> None:
    tree = with_cells(2)
    assert tree.without([7]) is tree
    assert tree.without_future() is tree


def test_undo_and_redo() -> None:
    tree = with_cells(3)
    assert tree.undone_by(2).number == 2
    left = tree.grown(Snapshot(number=4, automatic=True, cell=3))
    there = left.back_at(left.known[2]).left(Mark(4))
    assert (there.base, there.cell, there.past) == (2, 1, marks(1))
    assert there.future == marks(4)
    again = there.back_at(there.redone_by()).redone()
    assert (again.base, again.cell, again.past, again.future) == (4, 3, marks(1, 2, 3), ())


@pytest.mark.parametrize("cells", [0, -1])
def test_less_than_one_cell_is_no_number_of_them(cells: int) -> None:
    with pytest.raises(Invalid, match=f"^undo: {cells} is not a number of cells; 1 is the last one$"):
        with_cells(3).undone_by(cells)


def test_more_cannot_be_undone_than_there_are_cells() -> None:
    with pytest.raises(NotFound, match=r"^4 cells cannot be undone: the present state contains 3$"):
        with_cells(3).undone_by(4)
    with pytest.raises(NotFound, match="1 cell cannot be undone: the present state contains none"):
        Tree().undone_by(1)


def test_a_cell_without_a_snapshot_before_it_cannot_be_undone_alone() -> None:
    """What is told: why there is none, and the next one that undo can go to: the newest before, else the oldest."""
    tree = with_bare_cells(3, with_cells(1))
    assert tree.undoable == 4
    assert tree.undone_by(4).number == 1
    for cells, called in ((1, "the last cell"), (3, "the last 3 cells")):
        said = f"^{called} cannot be undone, there is no snapshot before: a thread; "
        with pytest.raises(
            Conflict, match=said + "the newest before that is the state at the start: undo 4 goes there$"
        ):
            tree.undone_by(cells)
    tree = with_cells(2, tree, first=7)
    assert [tree.undone_by(cells).number for cells in (1, 2, 6)] == [8, 7, 1]
    with pytest.raises(
        Conflict, match="it has been dropped; the oldest is the state after cell 4: undo 2 goes there"
    ):
        tree.without([1]).undone_by(6)
    with pytest.raises(Conflict, match="its process has ended"):
        tree.losing(1).undone_by(6)
    with pytest.raises(Conflict, match="a thread; there is none before any other cell"):
        with_bare_cells(2, Tree()).undone_by(1)


def test_a_snapshot_that_was_not_made_leaves_its_reason() -> None:
    tree = with_cells(2).began(Mark(3))
    assert tree.refused(3, "a hook").past == (*marks(1, 2), Mark(why="a hook"))
    assert tree.grown(Snapshot(number=3)).pasts[3] == marks(1, 2), "made while its cell is there already"


def test_so_many_cells_are_remembered() -> None:
    tree = with_bare_cells(MOST_MARKS + 5, with_cells(1))
    assert len(tree.past) == MOST_MARKS
    with pytest.raises(NotFound, match=f"contains {MOST_MARKS}"):
        tree.undone_by(MOST_MARKS + 1)


def test_what_was_left_cannot_be_come_back_to_when_it_was_not_kept() -> None:
    tree = with_cells(2)
    for mark, why in ((Mark(why="a thread"), "a thread"), (Mark(7), "it has been dropped")):
        with pytest.raises(Conflict, match=f"the state that was left cannot be had back: {why}"):
            tree.left(mark).redone_by()
        assert tree.left(mark).without_future() == tree
    with pytest.raises(NotFound, match="there is nothing to redo"):
        tree.redone_by()


def test_an_undo_that_cannot_be_taken_back_is_not_skipped_for_the_one_before_it() -> None:
    tree = with_cells(2).grown(Snapshot(number=3, automatic=True)).left(Mark(3)).left(Mark(why="a thread"))
    with pytest.raises(Conflict):
        tree.redone_by()


def test_a_new_cell_ends_what_could_be_redone() -> None:
    left = with_cells(2).grown(Snapshot(number=3, automatic=True))
    there = left.back_at(left.known[2]).left(Mark(3))
    assert 3 in there.known
    assert 3 not in there.without_future().known
    assert there.without_future().future == ()


def test_after_a_recovery_the_lost_cells_cannot_be_undone() -> None:
    tree = with_bare_cells(2, with_cells(3))
    assert tree.back_at(tree.known[2]).past == marks(1)
    assert tree.back_at(tree.known[3]).past == marks(1, 2)
    named_one = with_bare_cells(1, tree.grown(named(4, "mine")))
    assert named_one.back_at(named_one.known[4]).past == tree.past, "only what came after it is lost"
    assert (tree.begun_anew().past, tree.begun_anew().cell) == ((), 0)


def test_a_restart_keeps_what_a_person_kept() -> None:
    tree = with_cells(2).grown(named(3, "mine")).restarted()
    assert list(tree.known) == [3]
    assert (tree.base, tree.cell, tree.past, tree.befores) == (None, 0, (), {})


def test_undo_after_a_restore_is_of_the_cells_that_the_restored_state_contains() -> None:
    tree = with_cells(3, with_cells(2).grown(named(3, "mine")), first=4)
    there = tree.back_at(tree.known[3]).left(Mark(9))
    assert there.past == marks(1, 2)
    assert with_cells(1, there, first=10).undone_by(2).number == 2


def test_lines_are_left_at_their_heads_and_come_back_to() -> None:
    tree = with_cells(1).grown(named(2, "main.head", pinned=True)).on_line("other", 2)
    assert (tree.line, tree.heads, tree.lines()) == ("other", {"main": 2}, ["main", "other"])
    assert tree.past == marks(1), "both contain it"
    tree = with_cells(2, tree, first=4).grown(named(6, "other.head", pinned=True))
    assert tree.past == marks(1, 4, 5)
    back = tree.back_at(tree.known[2]).on_line("main", 6)
    assert back.past == marks(1)
    again = back.grown(named(7, "main.head")).back_at(back.known[6]).on_line("other", 7)
    assert again.past == marks(1, 4, 5), "each line has its own"
    assert (back.line, back.heads, back.base) == ("main", {"other": 6}, 2)
    assert (back.known[2].pinned, back.known[2].automatic) == (False, True), "like others from now on"
    assert back.without([6]).lines() == ["main"], "a line whose head is dropped cannot be gone to"


def test_a_lost_process_is_told_as_such() -> None:
    tree = Tree().grown(named(1, "mine")).losing(1)
    for name in ("mine", "1", "#1"):
        with pytest.raises(NotFound, match="is lost: its process has ended"):
            tree.find(name)
    with pytest.raises(NotFound, match="there is no snapshot 'yours'"):
        tree.find("yours")


def test_a_budget_counts_neither_heads_nor_what_redo_goes_to_and_spares_the_one_before_the_cell() -> None:
    tree = with_cells(3).grown(Snapshot(number=4, automatic=True)).left(Mark(4))
    assert tree.over(Budget(automatic=3, count=0)) == []
    assert [each.number for each in tree.over(Budget(automatic=0, count=0))] == [1, 2]
    tree = with_cells(3).grown(named(4, "head")).on_line("other", 4)
    assert [each.number for each in tree.over(Budget(automatic=3, count=0))] == []
    assert [each.number for each in tree.over(Budget(automatic=2, count=0))] == [1]


def test_under_pressure_the_automatic_ones_go_first_and_the_one_before_the_cell_last() -> None:
    tree = Tree().grown(named(1, "mine")).grown(named(2, "pinned", pinned=True))
    tree = with_cells(2, tree, first=3)
    assert [each.number for each in tree.expendable()] == [3, 1, 4]
    assert [each.number for each in with_bare_cells(1, tree).expendable()] == [3, 4, 1], (
        "none is before the last cell"
    )


def test_the_text_of_the_tree_says_when_each_was_made() -> None:
    at = 1_790_000_000.0
    lines = show_tree([named(1, "mine", cell=2, made=at), named(2, "undated", cell=3, parent=1)], 1)
    assert lines == [
        f"→ mine  (after cell 2, main, {time.strftime('%H:%M:%S', time.localtime(at))})",
        "· undated  (after cell 3, main)",
    ]


def test_all_of_them_gone_leaves_nothing() -> None:
    tree = with_cells(2).grown(named(3, "head")).on_line("other", 3).cleared()
    assert (tree.known, tree.heads, tree.base, tree.past, tree.future) == ({}, {}, None, (), ())


@given(st.data())
def test_whatever_happens_all_that_is_named_is_known(data: st.DataObject) -> None:
    """Heads, base and parents never name a snapshot that is gone; and undo goes over as many cells as it is told."""
    tree = Tree()
    for number in range(1, data.draw(st.integers(1, 25))):
        deed = data.draw(
            st.sampled_from(
                ["cell", "bare", "keep", "drop", "undo", "redo", "line", "restart", "lose", "anew"]
            )
        )
        known = sorted(tree.known)
        if deed == "cell":
            tree = with_cells(1, tree.without_future(), first=number)
        elif deed == "bare":
            tree = with_bare_cells(1, tree.without_future())
        elif deed == "keep":
            tree = tree.grown(named(number, f"n{number}", gate=data.draw(st.sampled_from(["", "f, line 1"]))))
        elif deed == "drop" and known:
            tree = tree.without(data.draw(st.lists(st.sampled_from(known))))
        elif deed == "lose" and known:
            tree = tree.losing(data.draw(st.sampled_from(known)))
        elif deed == "undo" and tree.past:
            cells = data.draw(st.integers(1, len(tree.past)))
            if tree.past[-cells].number not in tree.known:
                with pytest.raises(Conflict):
                    tree.undone_by(cells)
                continue
            left = tree.grown(Snapshot(number=number, automatic=True))
            there = left.back_at(left.undone_by(cells))
            assert there.past == tree.past[:-cells], "so many cells, no more and no fewer"
            tree = there.left(Mark(number))
        elif deed == "redo" and tree._left():
            if tree.future[-1].number in tree.known:
                tree = tree.back_at(tree.redone_by()).redone()
        elif deed == "line":
            line = data.draw(st.sampled_from([name for name in ("main", "a", "b") if name != tree.line]))
            there = tree.grown(named(number, f"head-{number}", pinned=True))
            back = there.heads.get(line)
            tree = (there if back is None else there.back_at(there.known[back])).on_line(line, number)
        elif deed == "restart":
            tree = tree.restarted()
        elif deed == "anew":
            tree = tree.begun_anew()
        assert tree.undoable <= len(tree.past)
        all_named = {*tree.pasts, *tree.befores.values(), *tree.heads.values()}
        all_named |= ({tree.base} - {None}) | (set(parents(tree).values()) - {None})
        assert all_named <= tree.known.keys()
        assert tree.line not in tree.heads
        assert all(number > (parent or 0) for number, parent in parents(tree).items())

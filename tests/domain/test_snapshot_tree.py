"""The tree of a session's snapshots, without a session: each change gives another tree and leaves the old one as it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.errors import NotFound
from kernel_runtime.domain.snapshot import Budget, Snapshot
from kernel_runtime.domain.snapshot_tree import Tree, Undo


def with_cells(cells: int, tree: Tree | None = None, first: int = 1) -> Tree:
    """After so many cells, each with the snapshot before it."""
    tree = tree or Tree()
    for number in range(first, first + cells):
        tree = tree.grown(Snapshot(number=number, automatic=True, cell=tree.cell))
        tree = tree.before_cell(number, number).ran(number)
    return tree


def named(number: int, name: str, **fields: Any) -> Snapshot:
    return Snapshot(number=number, name=name, **fields)


def parents(tree: Tree) -> dict[int, int | None]:
    return {number: snapshot.parent for number, snapshot in tree.known.items()}


def test_each_snapshot_comes_from_the_one_before() -> None:
    tree = with_cells(3)
    assert parents(tree) == {1: None, 2: 1, 3: 2}
    assert (tree.base, tree.cell, tree.past) == (3, 3, (1, 2, 3))
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
    assert tree.without([2]).past == (1, 3, 4)
    assert tree.without([2]).befores == {1: 1, 3: 3, 4: 4}
    assert parents(tree) == {1: None, 2: 1, 3: 2, 4: 3}, "the old tree is as it was"


def test_what_is_not_known_changes_nothing() -> None:
    tree = with_cells(2)
    assert tree.without([7]) is tree
    assert tree.without_future() is tree


def test_undo_and_redo() -> None:
    tree = with_cells(3)
    assert tree.undone_by(2) == (2, 3)
    left = tree.grown(Snapshot(number=4, automatic=True, cell=3))
    there = left.back_at(left.known[2]).undone((2, 3), 4)
    assert (there.base, there.cell, there.past) == (2, 1, (1,))
    assert there.future == (Undo(4, (2, 3)),)
    again = there.back_at(there.known[4]).redone()
    assert (again.base, again.cell, again.past, again.future) == (4, 3, (1, 2, 3), ())


@pytest.mark.parametrize("cells", [0, -1, 4])
def test_more_cannot_be_undone_than_there_are_cells(cells: int) -> None:
    with pytest.raises(NotFound, match=r"are the last 3 to go back to"):
        with_cells(3).undone_by(cells)
    with pytest.raises(NotFound, match=r"are none to go back to"):
        Tree().undone_by(1)


def test_what_was_left_cannot_be_come_back_to_when_it_was_not_kept() -> None:
    tree = with_cells(2)
    for left in (None, 7):
        assert tree.undone((2,), left).future == ()
        assert tree.undone((2,), left).past == (1,)


def test_a_new_cell_ends_what_could_be_redone() -> None:
    left = with_cells(2).grown(Snapshot(number=3, automatic=True))
    there = left.back_at(left.known[2]).undone((2,), 3)
    assert 3 in there.known
    assert 3 not in there.without_future().known
    assert there.without_future().future == ()


def test_after_a_recovery_the_lost_cells_cannot_be_undone() -> None:
    tree = with_cells(3)
    assert tree.recovered_at(2).past == (1,)
    assert tree.recovered_at(7) is tree


def test_a_restart_keeps_what_a_person_kept() -> None:
    tree = with_cells(2).grown(named(3, "mine")).restarted()
    assert list(tree.known) == [3]
    assert (tree.base, tree.cell, tree.past, tree.befores) == (None, 0, (), {})


def test_other_states_visited_leave_undo_and_redo_as_they_were_as_far_as_they_are_known() -> None:
    then = with_cells(3)
    visited = with_cells(2, then, first=4).without([2])
    assert visited.returned_to(then).past == (1, 3)


def test_lines_are_left_at_their_heads_and_come_back_to() -> None:
    tree = with_cells(1).grown(named(2, "main.head", pinned=True)).on_line("other", 2)
    assert (tree.line, tree.heads, tree.past, tree.lines()) == ("other", {"main": 2}, (), ["main", "other"])
    tree = tree.grown(named(3, "other.head", pinned=True))
    back = tree.back_at(tree.known[2]).on_line("main", 3)
    assert (back.line, back.heads, back.base) == ("main", {"other": 3}, 2)
    assert (back.known[2].pinned, back.known[2].automatic) == (False, True), "like others from now on"
    assert back.without([3]).lines() == ["main"], "a line whose head is dropped cannot be gone to"


def test_a_lost_process_is_told_as_such() -> None:
    tree = Tree().grown(named(1, "mine")).losing(1)
    for name in ("mine", "1", "#1"):
        with pytest.raises(NotFound, match="is lost: its process has ended"):
            tree.find(name)
    with pytest.raises(NotFound, match="there is no snapshot 'yours'"):
        tree.find("yours")


def test_a_budget_counts_neither_heads_nor_what_redo_goes_to_and_spares_the_one_before_the_cell() -> None:
    tree = with_cells(3).grown(Snapshot(number=4, automatic=True)).undone((), 4)
    assert tree.over(Budget(automatic=3, count=0)) == []
    assert [each.number for each in tree.over(Budget(automatic=0, count=0))] == [1, 2]
    tree = with_cells(3).grown(named(4, "head")).on_line("other", 4)
    assert [each.number for each in tree.over(Budget(automatic=3, count=0))] == []
    assert [each.number for each in tree.over(Budget(automatic=2, count=0))] == [1], "no cell of this line"


def test_under_pressure_the_automatic_ones_go_first_and_the_one_before_the_cell_last() -> None:
    tree = Tree().grown(named(1, "mine")).grown(named(2, "pinned", pinned=True))
    tree = with_cells(2, tree, first=3)
    assert [each.number for each in tree.expendable()] == [3, 1, 4]


def test_all_of_them_gone_leaves_nothing() -> None:
    tree = with_cells(2).grown(named(3, "head")).on_line("other", 3).cleared()
    assert (tree.known, tree.heads, tree.base, tree.past, tree.future) == ({}, {}, None, (), ())


@given(st.data())
def test_whatever_happens_all_that_is_named_is_known(data: st.DataObject) -> None:
    """Past, future, heads, base and parents never name a snapshot that is gone."""
    tree = Tree()
    for number in range(1, data.draw(st.integers(1, 25))):
        deed = data.draw(st.sampled_from(["cell", "keep", "drop", "undo", "redo", "line", "restart", "lose"]))
        known = sorted(tree.known)
        if deed == "cell":
            tree = with_cells(1, tree.without_future(), first=number)
        elif deed == "keep":
            tree = tree.grown(named(number, f"n{number}", gate=data.draw(st.sampled_from(["", "f, line 1"]))))
        elif deed == "drop" and known:
            tree = tree.without(data.draw(st.lists(st.sampled_from(known))))
        elif deed == "lose" and known:
            tree = tree.losing(data.draw(st.sampled_from(known)))
        elif deed == "undo" and tree.past:
            undone = tree.undone_by(data.draw(st.integers(1, len(tree.past))))
            left = tree.grown(Snapshot(number=number, automatic=True))
            tree = left.back_at(left.known[undone[0]]).undone(undone, number)
        elif deed == "redo" and tree.future:
            tree = tree.back_at(tree.known[tree.future[-1].left]).redone()
        elif deed == "line":
            line = data.draw(st.sampled_from([name for name in ("main", "a", "b") if name != tree.line]))
            there = tree.grown(named(number, f"head-{number}", pinned=True))
            back = there.heads.get(line)
            tree = (there if back is None else there.back_at(there.known[back])).on_line(line, number)
        elif deed == "restart":
            tree = tree.restarted()
        all_named = {*tree.past, *(undo.left for undo in tree.future), *tree.heads.values()}
        all_named |= (
            {*tree.befores.values()} | ({tree.base} - {None}) | (set(parents(tree).values()) - {None})
        )
        assert all_named <= tree.known.keys()
        assert tree.line not in tree.heads
        assert all(number > (parent or 0) for number, parent in parents(tree).items())

"""The lanes in which the tree of snapshots is drawn."""

from __future__ import annotations

import random

import pytest

from kernel_runtime.domain.snapshot import Snapshot
from kernel_runtime.jupyter.panels.tree import Edge, lay_out


def chain(*parents: int | None, lines: str = "") -> list[Snapshot]:
    """Snapshots 1, 2, … with these parents."""
    return [
        Snapshot(number=n, parent=parent, line=lines[n - 1] if lines else "main")
        for n, parent in enumerate(parents, 1)
    ]


def test_nothing_but_now():
    (now,) = lay_out([], None, "main")
    assert now.number is None
    assert (now.lane, now.below, now.above) == (0, False, None)


def test_a_chain_stays_in_one_lane():
    rows = lay_out(chain(None, 1, 2), 3, "main")
    assert [row.number for row in rows] == [None, 3, 2, 1]
    assert {row.lane for row in rows} == {0}
    assert [row.below for row in rows] == [True, True, True, False]
    assert [row.above for row in rows] == [None, "main", "main", "main"]


def test_after_going_back_the_left_state_has_a_lane_of_its_own():
    rows = {row.number: row for row in lay_out(chain(None, 1, 2), 1, "main")}
    assert rows[3].lane == rows[2].lane == 1
    assert rows[3].above is None
    assert rows[3].passing == [Edge(0, "main")]
    assert rows[1].lane == 0
    assert rows[1].joining == [Edge(1, "main")]


def test_an_edge_has_the_line_of_its_child():
    rows = {row.number: row for row in lay_out(chain(None, 1, 1, lines="aab"), 2, "a")}
    assert rows[1].above == "a"
    assert rows[1].joining == [Edge(1, "b")]


def test_a_parent_that_is_gone_ends_the_line():
    rows = lay_out([Snapshot(number=7, parent=3)], 5, "main")
    assert [row.below for row in rows] == [False, False]
    assert rows[1].above is None


@pytest.mark.parametrize("seed", range(20))
def test_every_edge_reaches_its_parent(seed):
    dice = random.Random(seed)
    snapshots = chain(*(dice.choice([None, *range(1, n)]) for n in range(1, 25)))
    base = dice.randrange(1, 25)
    rows = lay_out(snapshots, base, "main")
    parents = {each.number: each.parent for each in snapshots} | {None: base}
    leads: dict[int, int | None] = {}
    for row in rows:
        arriving = [lane for lane, parent in leads.items() if parent == row.number]
        assert sorted(arriving) == sorted(
            [edge.lane for edge in row.joining] + ([row.lane] if row.above is not None else [])
        )
        for lane in arriving:
            del leads[lane]
        assert sorted(edge.lane for edge in row.passing) == sorted(leads)
        assert row.lane not in leads
        if row.below:
            leads[row.lane] = parents[row.number]
    assert not leads

"""The arithmetic of figures and bars, and how they are shown."""

from __future__ import annotations

import re

import pytest

from benchmarks import report, suite  # noqa: F401 — the suite registers its benchmarks
from benchmarks.bars import BARS, Bar
from benchmarks.figures import OURS, Figure, Reading, Spec, percentile
from benchmarks.registry import BENCHMARKS
from benchmarks.turns import turns


def figure(ours, theirs, unit="s"):
    made = Figure(Spec(name="a", what="A", unit=unit))
    for subject, values in ((OURS, ours), ("peer", theirs)):
        for value in values:
            made.add(Reading("a", subject, value))
    return made


def test_ratios_are_of_medians_and_spread_over_the_rounds_in_pairs():
    ratio = figure([1.0, 2.0, 9.0], [2.0, 4.0, 3.0]).ratio("peer")
    assert ratio is not None
    assert (ratio.median, ratio.least, ratio.most, ratio.count) == (2 / 3, 0.5, 3.0, 3)


def test_a_peer_without_readings_or_with_a_zero_has_no_ratio():
    assert figure([1.0], [0.0]).ratio("peer") is None
    assert figure([1.0], []).ratio("peer") is None
    assert Bar(figure="a", peer="peer", most=1).reached(figure([1.0], [])) is None


@pytest.mark.parametrize(
    ("bar", "reached", "holds"),
    [
        (Bar(figure="a", peer="peer", most=1.0), 0.5, True),
        (Bar(figure="a", peer="peer", least=0.97), 0.5, False),
        (Bar(figure="a", kind="difference", peer="peer", most=-2.0), -1.0, False),
        (Bar(figure="a", kind="value", most=1.0), 1.0, True),
    ],
)
def test_bars(bar, reached, holds):
    found = bar.reached(figure([1.0], [2.0]))
    assert found == reached
    assert bar.holds(found) is holds


@pytest.mark.parametrize(
    ("bar", "said"),
    [
        (Bar(figure="a", kind="value", most=0.5, floor="peer"), "missed"),
        (Bar(figure="a", kind="value", most=0.3, floor="peer"), "missed, peer too"),
        (Bar(figure="a", kind="value", most=0.3), "missed"),
        (Bar(figure="a", kind="value", most=2.0, floor="peer"), "held"),
        (Bar(figure="a", kind="value", most=0.3, floor="nobody"), "missed"),
    ],
)
def test_a_bar_that_its_floor_misses_as_well_is_told_apart(bar, said, monkeypatch):
    monkeypatch.setattr(report, "bars_of", lambda _: [bar])
    made = figure([1.0], [0.4])
    assert said == re.sub(r"\[.*?\]", "", report._verdict(bar, made))
    assert report.missed([made]) == ({} if said == "held" else {"a": said.endswith("too")})


def test_a_figure_with_one_bar_that_only_we_miss_is_ours_to_mend(monkeypatch):
    bars = [
        Bar(figure="a", kind="value", most=0.3, floor="peer"),
        Bar(figure="a", kind="value", most=0.5, floor="peer"),
    ]
    monkeypatch.setattr(report, "bars_of", lambda _: bars)
    assert report.missed([figure([1.0], [0.4])]) == {"a": False}


def test_every_bar_belongs_to_a_figure_that_is_measured():
    measured = {spec.name for benchmark in BENCHMARKS.values() for spec in benchmark.figures}
    assert {bar.figure for bar in BARS} <= measured


def test_subjects_take_turns_at_being_first():
    assert list(turns(3, ["a", "b"])) == ["a", "b", "b", "a", "a", "b"]


def test_percentiles_lie_between_the_values():
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile([1.0], 0.99) == 1.0


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0005, "s", "500 µs"),
        (0.25, "s", "250 ms"),
        (12, "s", "12 s"),
        (2**21, "B", "2 MiB"),
        (1500, "/s", "1,500 /s"),
    ],
)
def test_amounts_are_shown_in_fitting_units(value, unit, text):
    assert report.show(value, unit) == text

"""Calls from app to app: no circles, no long chains, and no more time than is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.errors import Conflict, OutsideFailed
from kernel_runtime.domain.journey import MAX_DEPTH, Journey, Stop

START = Journey(stops=(Stop("notebook", "/n"),))


def test_a_circle_is_refused_with_the_chain() -> None:
    a = START.on_to(Stop("a", "/a"), 5, now=0.0)
    b = a.on_to(Stop("b", "/b"), 5, now=0.0)
    for back, chain in ((Stop("a", "/a"), "notebook → a → b → a"), (Stop("b", "/b"), "notebook → a → b → b")):
        with pytest.raises(Conflict, match=chain):
            b.on_to(back, 5, now=0.0)


def test_another_app_that_calls_itself_the_same_is_no_circle() -> None:
    a = START.on_to(Stop("a", "/a"), 5, now=0.0)
    assert a.on_to(Stop("a", "/elsewhere"), 5, now=0.0).stops[-1].place == "/elsewhere"


def test_a_chain_is_bounded() -> None:
    journey = START
    for number in range(MAX_DEPTH):
        journey = journey.on_to(Stop(f"a{number}", f"/{number}"), 5, now=0.0)
    with pytest.raises(Conflict, match=f"more than {MAX_DEPTH} calls"):
        journey.on_to(Stop("one", "/more"), 5, now=0.0)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=MAX_DEPTH))
def test_a_call_within_another_never_lasts_longer(seconds: list[float]) -> None:
    journey, least = START, float("inf")
    for number, wanted in enumerate(seconds):
        journey = journey.on_to(Stop(f"a{number}", f"/{number}"), wanted, now=100.0)
        least = min(least, wanted)
        assert journey.left(100.0) == pytest.approx(least)


def test_without_time_nothing_is_called() -> None:
    a = START.on_to(Stop("a", "/a"), 5, now=0.0)
    assert a.on_to(Stop("b", "/b"), 60, now=4.5).left(4.5) == 0.5  # the control
    with pytest.raises(OutsideFailed, match="no time is left"):
        a.on_to(Stop("b", "/b"), 60, now=5.0)

"""A token bucket never gives more than its rate and its burst."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.bucket import Bucket

_steps = st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 50)), max_size=50)


@given(st.floats(0.1, 1000), st.floats(1, 1000), _steps)
def test_no_more_is_taken_than_rate_and_burst_allow(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    bucket, now, taken = Bucket(rate, burst, 0.0), 0.0, 0.0
    for pause, amount in steps:
        now += pause
        if bucket.take(now, amount):
            taken += amount
        assert taken <= burst + rate * now + 1e-6


@given(st.floats(0.1, 1000), st.floats(1, 1000), st.floats(0.1, 5000))
def test_who_waits_as_long_as_told_owes_nothing(rate: float, burst: float, amount: float) -> None:
    bucket = Bucket(rate, burst, 0.0)
    wait = bucket.owe(0.0, amount)
    assert (wait == 0) == (amount <= burst)
    assert bucket.wait(wait, 0.0) < 1e-6


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = Bucket(1, 1, 10.0)
    assert bucket.take(10.0)
    assert not bucket.take(0.0)
    assert not bucket.take(10.5)
    assert bucket.take(11.0)

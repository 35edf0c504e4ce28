"""The text forms of conditions, and windows over midnight."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.clock import Clock
from kernel_runtime.domain.conditions import (
    Conditions,
    Rate,
    parse_pattern,
    parse_quota,
    parse_rate,
    parse_window,
)
from kernel_runtime.domain.errors import Invalid


def at(text: str, offset: int = 0) -> Clock:
    return Clock(now=datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp(), offset=offset)


@pytest.mark.parametrize(
    ("window", "moment", "holds"),
    [
        ("08:00-18:00 UTC", "2026-11-26T08:00", True),
        ("08:00-18:00 UTC", "2026-11-26T18:00", False),
        ("Mon-Fri 08:00-18:00 UTC", "2026-11-28T12:00", False),  # a Saturday
        ("sat,sun 00:00-24:00 utc", "2026-11-28T23:59", True),
        ("fri-mon 00:00-24:00 UTC", "2026-11-30T12:00", True),
        ("fri-mon 00:00-24:00 UTC", "2026-12-01T12:00", False),
        ("fri 22:00-06:00 UTC", "2026-11-28T05:59", True),  # it belongs to Friday
        ("fri 22:00-06:00 UTC", "2026-11-27T05:59", False),
        ("fri 22:00-06:00 UTC", "2026-11-28T22:30", False),
    ],
)
def test_windows(window: str, moment: str, holds: bool) -> None:
    assert parse_window(window).holds(at(moment)) is holds


def test_a_window_is_local_unless_it_says_otherwise() -> None:
    moment = at("2026-11-26T07:30", offset=3600)
    assert parse_window("08:00-09:00").holds(moment)
    assert not parse_window("08:00-09:00 UTC").holds(moment)


@given(st.sampled_from(("mon", "tue-thu", "sat,mon")), st.integers(0, 23), st.integers(0, 59), st.booleans())
def test_a_window_is_shown_as_it_is_read(days: str, hour: int, minute: int, utc: bool) -> None:
    window = parse_window(f"{days} {hour:02}:{minute:02}-24:00{' UTC' if utc else ''}")
    assert parse_window(window.text) == window


@pytest.mark.parametrize(
    "text", ["", "8-9", "25:00-26:00", "08:00-08:00", "Xyz 08:00-09:00", "08:60-09:00", "24:01-25:00"]
)
def test_what_is_no_window_is_told(text: str) -> None:
    with pytest.raises(Invalid):
        parse_window(text)


def test_rates_quotas_and_patterns() -> None:
    assert parse_rate("60/min") == Rate(60, 60.0)
    assert parse_rate("5 / day") == Rate(5, 86400.0)
    assert parse_quota(None, "10M", "hour").bytes == 10 * 1024**2
    for wrong in ("60", "/min", "-1/s", "1e3/s", "1/fortnight", "0/s"):
        with pytest.raises(Invalid):
            parse_rate(wrong)
    with pytest.raises(Invalid, match="no period"):
        parse_quota(1, None, "week")
    for wrong in ("", "*****", "x" * 501):
        with pytest.raises(Invalid):
            parse_pattern(wrong)


@pytest.mark.parametrize(
    ("until", "said"),
    [
        (1577836800.0, "until 2020-01-01 00:00:00 UTC"),
        (-1.0, "until 1969-12-31 23:59:59 UTC"),
        (1e14, "until 100000000000000 s after 1970"),
    ],
)
def test_an_end_is_told_as_a_date_and_counted_as_before(until: float, said: str) -> None:
    conditions = Conditions(until=until)
    assert conditions.words == said
    assert conditions.text == f"until {until:.0f}"

"""Amounts as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.amounts import GIB, MIB, counted, show_amount
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.level import Level, parse_level
from kernel_runtime.domain.limits import (
    ALWAYS,
    FLOORS,
    Limits,
    parse_bytes,
    parse_flood,
    parse_limits,
    parse_seconds,
    parse_share,
)
from kernel_runtime.domain.snapshot import Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("512M", 512 * MIB),
        ("1.5 GiB", int(1.5 * GIB)),
        ("64kb", 65536),
        (1000, 1000),
        ("7", 7),
        ("2G", 2 * GIB),
    ],
)
def test_bytes(text: str | int, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("30s", 30),
        ("500ms", 0.5),
        ("2m", 120),
        ("1h", 3600),
        ("1.5d", 129_600),
        ("2w", 1_209_600),
        (1.5, 1.5),
    ],
)
def test_seconds(text: str | float, amount: float) -> None:
    assert parse_seconds(text) == amount


@pytest.mark.parametrize("text", ["", "lots", "-1", "12Q", "1e9", "512 M B", "NaN"])
def test_no_amount_names_the_place_and_what_is_right(text: str) -> None:
    with pytest.raises(Invalid, match=r"limits\.memory: .*like 512M"):
        parse_limits({"memory": text})


def test_unknown_limit_names_the_known_ones() -> None:
    with pytest.raises(Invalid, match="memory, disk, output, cpu, wall, pids"):
        parse_limits({"memroy": "1G"})


@pytest.mark.parametrize(("name", "text"), [("memory", "1M"), ("pids", "1"), ("disk", "1"), ("wall", "0")])
def test_too_little_to_live_is_refused(name: str, text: str) -> None:
    with pytest.raises(Invalid, match="least a guest can live with"):
        parse_limits({name: text})


def test_none_lifts_what_may_be_lifted() -> None:
    assert parse_limits({"memory": "none"}).memory is None
    with pytest.raises(Invalid):
        parse_limits({"output": "none"})


def _amounts(name: str) -> st.SearchStrategy[float | None]:
    """Every amount a limit may have."""
    kind = float if name in ("cpu", "cpus", "wall", "session") else int
    least = kind(FLOORS[name])
    given: st.SearchStrategy[float] = (
        st.floats(max(FLOORS[name], 0.01), 1e6) if kind is float else st.integers(least, 10**12)
    )
    return given if name in ALWAYS else st.none() | given


_limits = st.builds(Limits, **{name: _amounts(name) for name in Limits.__struct_fields__})


def _within(inner: Limits, outer: Limits) -> bool:
    def held(name: str) -> bool:
        most, given = getattr(outer, name), getattr(inner, name)
        return most is None or (given is not None and given <= most)

    return all(held(name) for name in Limits.__struct_fields__)


@given(_limits, _limits)
def test_tightened_is_within_both_and_order_does_not_matter(one: Limits, other: Limits) -> None:
    both = one.tightened(other)
    assert _within(both, one)
    assert _within(both, other)
    assert both == other.tightened(one)
    assert both.tightened(one) == both


@given(st.integers(0, 10**15))
def test_bytes_are_shown_and_read_back_closely(amount: int) -> None:
    shown = parse_bytes(show_amount("memory", amount).replace(" bytes", ""))
    assert abs(shown - amount) <= max(1, amount * 0.006)


def test_levels() -> None:
    assert parse_level(" Strict ") is Level.STRICT
    assert [level.rank for level in (Level.STRICT, Level.MODERATE, Level.PERMISSIVE)] == [0, 1, 2]
    with pytest.raises(Invalid, match="strict, moderate, permissive"):
        parse_level("none", "app.toml: level")


@pytest.mark.parametrize(
    ("name", "text", "amount"),
    [
        ("cpus", "0.5", 0.5),
        ("cpus", "150%", 1.5),
        ("session", "2h", 7200),
        ("inodes", "1000", 1000),
        ("file_size", "16M", 16 * MIB),
        ("open_files", "256", 256),
        ("messages", "100/s", 100),
        ("network", "1G", GIB),
        ("network", "0", 0),
        ("bandwidth", "1M/s", MIB),
    ],
)
def test_each_limit_has_its_text(name: str, text: str, amount: float) -> None:
    assert getattr(parse_limits({name: text}), name) == amount


def test_every_limit_has_a_floor_and_a_text_form() -> None:
    assert set(FLOORS) == set(Limits.__struct_fields__)
    for name, floor in FLOORS.items():
        assert getattr(parse_limits({name: str(floor)}), name) == floor
        if floor > 0:
            with pytest.raises(Invalid, match="least"):
                parse_limits({name: "0"})
        if name not in ALWAYS:
            assert getattr(parse_limits({name: "none"}), name) is None
        else:
            with pytest.raises(Invalid):
                parse_limits({name: "none"})


@given(_limits)
def test_the_defaults_written_out_are_read_back(limits: Limits) -> None:
    texts = {name: getattr(limits, name) for name in Limits.__struct_fields__}
    written: dict[str, object] = {
        n: "none" if v is None else f"{v:.9f}" if isinstance(v, float) else v for n, v in texts.items()
    }
    read = parse_limits(written)
    for name, amount in texts.items():
        assert getattr(read, name) == (None if amount is None else pytest.approx(amount, abs=1e-6))


@given(
    st.sampled_from(Limits.__struct_fields__),
    st.text(max_size=40) | st.from_regex(r"\s*[0-9.]+ ?[a-zA-Z%/]*\s*"),
)
def test_any_text_is_an_amount_within_bounds_or_refused_with_its_place(name: str, text: str) -> None:
    try:
        amount = getattr(parse_limits({name: text}), name)
    except Invalid as error:
        assert f"limits.{name}" in str(error)
    else:
        assert amount is None or FLOORS[name] <= amount < float("inf")


def test_flood() -> None:
    assert parse_flood(" End ") == "end"
    with pytest.raises(Invalid, match="cut, end"):
        parse_flood("drop", "notebook.flood")


@pytest.mark.parametrize("text", ["foo", "²", "-1", "5 % %"])
def test_a_share_that_is_none_is_told_with_what_it_is_a_share_of(text: str) -> None:
    with pytest.raises(
        Invalid, match=f"^s.snapshot_share: '{text}' is not a share of the computing that is saved; "
    ):
        parse_budget({"snapshot_share": text}, Budget(), "s")
    with pytest.raises(Invalid, match=f"^cpus: '{text}' is not a share of CPU time; write cores"):
        parse_share(text)
    assert parse_budget({"snapshot_share": "5%"}, Budget(share=1), "s").share == 0.05, "the control"


def test_one_is_not_many() -> None:
    assert [counted(number, "cell") for number in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]

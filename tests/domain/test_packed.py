"""Plain data as MessagePack: what passes, and what is refused before anything is made of it."""

from __future__ import annotations

import datetime as dt
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain import packed
from kernel_runtime.domain.errors import Invalid, ProtocolViolation

_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300)
)
_plain = st.recursive(_leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(_plain)
def test_plain_data_comes_back_as_it_was(value: object) -> None:
    assert packed.unpack(packed.pack(value)) == value


def test_a_moment_comes_back() -> None:
    moments = [dt.datetime(year, 3, 1, 12, 30, 5, 250, dt.UTC) for year in (1900, 1999, 2026, 2700)]
    assert packed.unpack(packed.pack(moments)) == moments


@given(st.binary(max_size=200))
def test_garbage_is_a_violation_or_what_the_decoder_says(data: bytes) -> None:
    """What passes the walk is what a decoder reads to its end, and nothing else passes."""
    try:
        packed.check(data)
    except ProtocolViolation:
        with pytest.raises(ProtocolViolation):
            packed.unpack(data)
        return
    try:
        msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
        with pytest.raises(ProtocolViolation):
            packed.unpack(data)


@given(_plain)
def test_a_walk_counts_every_value(value: object) -> None:
    assert packed.check(packed.pack(value)) == _count(value)


def _count(value: object) -> int:
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(_count, value.values()))
    return 1 + sum(map(_count, value)) if isinstance(value, list) else 1


@given(_plain, st.integers(1, 40))
def test_steps_make_no_difference(value: object, step: int) -> None:
    data = packed.pack([value, value])
    before, packed.STEP = packed.STEP, step
    try:
        walk, steps = packed.walked(data), 0
        with pytest.raises(StopIteration) as end:
            while True:
                next(walk)
                steps += 1
    finally:
        packed.STEP = before
    assert end.value.value == packed.check(data)
    assert steps <= end.value.value // step + 1


@given(_plain, st.integers(1, 50))
def test_what_is_cut_off_is_refused(value: object, cut: int) -> None:
    data = packed.pack(value)
    with pytest.raises(ProtocolViolation):
        packed.unpack(data[: max(0, len(data) - cut)])
    with pytest.raises(ProtocolViolation):
        packed.unpack(data + b"\xc0")


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * (packed.MAX_DEPTH + 5) + b"\xc0",
        b"\xdd" + struct.pack(">I", 2**32 - 1),
        b"\xdd" + struct.pack(">I", packed.MAX_PARTS + 1) + b"\x90" * (packed.MAX_PARTS + 1),
        b"\xc7\x05\x01hello",
        b"\xc1",
        b"",
    ],
    ids=[
        "deep",
        "a huge list that never comes",
        "a bomb of empty lists",
        "an extension",
        "no type",
        "nothing",
    ],
)
def test_bombs_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        packed.unpack(data)
    packed.unpack(b"\x91" * (packed.MAX_DEPTH - 5) + b"\xc0")  # the control: as deep as is allowed


def test_what_is_no_plain_data_is_told_to_who_packs_it() -> None:
    for value in (object(), 2**80, [[[]]] * packed.MAX_PARTS, bytes(packed.MAX_ARGUMENTS + 1)):
        with pytest.raises(Invalid):
            packed.pack(value)

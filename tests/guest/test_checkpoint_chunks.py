"""Cutting: nothing is lost, chunks are bounded, and a change moves only the cuts near it."""

from __future__ import annotations

import io
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.guest import checkpoint_chunks as chunks


def cut(values) -> list[bytes]:
    found: list[bytes] = []
    cutter = chunks.StreamCutter(found.extend)
    pickle.Pickler(cutter, 5).dump(values)
    cutter.close()
    assert cutter.size == sum(map(len, found))
    return found


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
)
_SIZES = st.sampled_from([1, 5, 65_535, 65_536, 65_537, 130_000])
_LARGE = st.builds(
    lambda size, first: first + bytes(max(0, size - len(first))),
    _SIZES,
    st.sampled_from([b"", b"\x95", b"\x80\x05"]),
)
_HEADED = st.builds(
    lambda size: b"\x95" + (size - 9).to_bytes(8, "little") + bytes(size - 9),
    st.sampled_from([65_536, 70_000]),
)
_VALUES = st.recursive(
    _LEAVES | _LARGE | _HEADED | _LARGE.map(bytearray) | _SIZES.map("ü".__mul__),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=5), inner, max_size=5)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


@given(_VALUES)
def test_a_stream_without_frames_unpickles_to_the_same(values):
    assert pickle.loads(b"".join(cut(values))) == values


@given(st.integers(0, 2**32), st.integers(1, 30_000))
def test_many_frames_unpickle_to_the_same(seed, count):
    rng = random.Random(seed)
    values = [rng.choice([rng.random(), rng.getrandbits(70), f"text {rng.random()}"]) for _ in range(count)]
    found = cut(values)
    assert pickle.loads(b"".join(found)) == values
    assert len(found) >= count * 5 // chunks.LONGEST


@given(st.binary(max_size=3000), st.integers(1, 40))
def test_chunks_are_bounded_and_put_together_are_the_data(seed, times):
    data = seed * times
    found = chunks.cut(data)
    assert b"".join(found) == data
    assert all(chunks.SHORTEST < len(one) <= chunks.LONGEST or one is found[-1] for one in found)


@given(st.integers(0, 2**32), st.binary(min_size=1, max_size=50), st.floats(0, 1))
def test_an_insertion_moves_only_the_cuts_near_it(seed, inserted, where):
    data = random.Random(seed).randbytes(200_000)
    place = int(where * len(data))
    before, after = chunks.cut(data), chunks.cut(data[:place] + inserted + data[place:])
    new = set(after) - set(before)
    assert sum(map(len, new)) <= 15 * chunks.LONGEST


def test_one_longer_text_among_many_records_is_a_small_change():
    rng = random.Random(1)
    records = [
        {"id": n, "name": f"user {n}", "score": rng.random(), "tags": ["a", f"c{n % 100}"]}
        for n in range(30_000)
    ]
    before = cut(records)
    records[1000]["name"] = "a much longer name than before, and more of it"
    new = set(cut(records)) - set(before)
    assert 0 < sum(map(len, new)) <= 6 * chunks.LONGEST < sum(map(len, before)) / 20


def test_frame_headers_are_left_out():
    """The control: with them, there is one every 64 KB."""
    values = list(range(100_000))
    plain = pickle.dumps(values, 5)
    assert len(plain) - sum(map(len, cut(values))) >= 9 * (len(plain) // 70_000)
    file = io.BytesIO()
    pickle.Pickler(file, 5).dump(values)
    assert file.getvalue() == plain


@given(st.integers(0, 300_000))
def test_a_buffer_is_cut_every_64_kb(size):
    found = list(chunks.fixed(memoryview(bytes(size))))
    assert sum(map(len, found)) == size
    assert all(len(one) == chunks.BUFFER_CHUNK for one in found[:-1])


@pytest.mark.parametrize("seed", [0, 1, 2**62 - 1])
def test_a_digest_depends_on_content_and_seed(seed):
    assert len(chunks.digest(b"x", seed)) == 16
    assert chunks.digest(b"x", seed) == chunks.digest(memoryview(b"x"), seed) != chunks.digest(b"y", seed)
    assert chunks.digest(b"x", seed) != chunks.digest(b"x", seed + 1 if seed < 2**61 else 5)

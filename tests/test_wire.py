"""The frame codec: whatever bytes come, in whatever pieces."""

from __future__ import annotations

import itertools
import json
import struct
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_runtime import wire
from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.domain.limits import Limits

_text = st.text(max_size=50)
_data = st.binary(max_size=200)
_word = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True)
_value = st.builds(wire.Value, format=_text, data=_data, meta=st.dictionaries(_text, _text, max_size=3))
_from_branch = st.one_of(
    st.builds(wire.Ready, branch=st.integers(0, 2**31), info=_data),
    st.builds(wire.Stream, parent=_text, name=_text, text=_text),
    st.builds(
        wire.Publish,
        parent=_text,
        kind=_text,
        content=_data,
        metadata=_data,
        buffers=st.lists(_data, max_size=3),
    ),
    st.builds(wire.Ask, id=_text, parent=_text, prompt=_text, password=st.booleans()),
    st.builds(wire.Reply, parent=_text, kind=_text, content=_data),
    st.builds(wire.Done, parent=_text),
    st.builds(wire.Got, parent=_text, value=st.none() | _value, error=st.none() | _text),
    st.builds(
        wire.Call, id=st.integers(1, 2**53), capability=_word, action=_word, arguments=_data, parent=_text
    ),
    st.builds(wire.Withdraw, id=st.integers(1, 2**53)),
)


def _pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(_from_branch, max_size=5), st.lists(st.integers(0, 10_000), max_size=10))
def test_any_split_of_the_bytes_gives_the_same_frames(frames: list[wire.Frame], cuts: list[int]) -> None:
    reader = wire.FrameReader(wire.decode_from_branch)
    got = []
    for piece in _pieces(b"".join(wire.pack(frame) for frame in frames), cuts):
        reader.feed(piece)
        got.extend(reader.frames())
    assert got == frames
    assert reader.pending == 0


@given(st.binary(max_size=500), st.lists(st.integers(0, 500), max_size=5))
def test_garbage_is_a_violation_or_waits_but_never_anything_else(data: bytes, cuts: list[int]) -> None:
    reader = wire.FrameReader(wire.decode_from_branch)
    try:
        for piece in _pieces(data, cuts):
            reader.feed(piece)
            list(reader.frames())
    except ProtocolViolation:
        return
    assert reader.pending <= len(data)


@given(
    st.recursive(st.none() | st.integers() | _text | _data, lambda c: st.lists(c) | st.dictionaries(_text, c))
)
def test_messagepack_of_another_shape_is_a_violation(value: object) -> None:
    try:
        body = msgspec.msgpack.encode(value)
    except OverflowError:
        return  # MessagePack has no such integer
    reader = wire.FrameReader(wire.decode_from_branch)
    reader.feed(struct.pack(">I", len(body)) + body)
    with pytest.raises(ProtocolViolation):
        list(reader.frames())


def test_a_huge_length_is_refused_before_its_bytes_come() -> None:
    reader = wire.FrameReader(wire.decode_from_branch)
    reader.feed(struct.pack(">I", wire.MAX_FRAME + 1))
    with pytest.raises(ProtocolViolation, match="exceeds the limit"):
        list(reader.frames())


def test_a_frame_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(ProtocolViolation):
        wire.pack(wire.Stream(parent="", name="stdout", text="x" * 100), limit=50)


def test_deep_messagepack_does_not_exhaust_the_stack() -> None:
    body = b"\x81\xa1t" + b"\x91" * 1_000_000
    with pytest.raises(ProtocolViolation):
        wire.decode(wire.decode_from_branch, body)


def test_unknown_fields_and_tags_are_refused() -> None:
    for extra in ({"t": "done", "parent": "1", "more": 1}, {"t": "fork", "branch": 1, "begin": b""}):
        with pytest.raises(ProtocolViolation):
            wire.decode(wire.decode_from_branch, msgspec.msgpack.encode(extra))


def test_the_other_directions_decode_what_they_are_for() -> None:
    begin = wire.Begin(branch=1, cwd="/", env={}, limits=Limits(), level="moderate")
    for decoder, frame in (
        (wire.decode_to_branch, begin),
        (wire.decode_to_init, wire.Fork(branch=1, begin=b"x")),
        (wire.decode_from_init, wire.Failed(wall="net", error="no")),
        (wire.decode_to_zygote, wire.Boot(image=b"x")),
        (wire.decode_from_zygote, wire.Spawned(id=1)),
    ):
        assert wire.decode(decoder, wire.pack(frame)[4:]) == frame


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda c: st.lists(c) | st.dictionaries(st.text(), c),
)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


@given(_json, st.integers(0, 4))
def test_check_json_agrees_with_the_depth_of_the_value(value: object, limit: int) -> None:
    data = json.dumps(value).encode()
    if _depth(value) <= limit:
        wire.check_json(data, limit)
    else:
        with pytest.raises(ProtocolViolation):
            wire.check_json(data, limit)


@pytest.mark.parametrize("text", [r"[[[\"", r"\"[[[", "[" * 500, "{" * 500, '\\"' * 300 + "[" * 300])
def test_brackets_in_strings_do_not_count(text: str) -> None:
    wire.check_json(json.dumps({"text": text}).encode(), 2)


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_check_json_never_fails_otherwise(data: bytes) -> None:
    try:
        wire.check_json(data, 3)
    except ProtocolViolation:
        pass


def test_check_json_is_linear_in_hostile_input() -> None:
    """16 MB of each nasty shape within seconds, not minutes (a bound against blow-up, no speed test)."""
    size = 16 * 2**20
    begun = time.process_time()
    for shape in (
        b"[" * size,
        b"[]" * (size // 2),
        b'"' * size,
        b"\\" * size,
        b'{"":' * (size // 4),
        b'["' * (size // 2),
    ):
        try:
            wire.check_json(shape)
        except ProtocolViolation:
            pass
    assert time.process_time() - begun < 60


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"[]," * 1_100_000 + b"0]",
        b"[" + b"1," * 4_100_000 + b"0]",
        b"[" + b'"",' * 4_100_000 + b"0]",
        b"{" + b'"":0,' * 4_100_000 + b'"":0}',
    ],
)
def test_json_that_grows_in_memory_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="more than"):
        wire.check_json(data)


def test_long_text_full_of_commas_is_no_bomb() -> None:
    wire.check_json(json.dumps({"csv": '1,2:"[]{}",' * 1_000_000}).encode())


def test_buffers_are_counted_before_they_are_decoded() -> None:
    many = wire.pack(wire.Publish(parent="", kind="comm_msg", content=b"{}", buffers=[b"ab"] * 5000))
    with pytest.raises(ProtocolViolation, match="4096"):
        wire.decode(wire.decode_from_branch, many[4:])


def test_ids_are_short() -> None:
    long = wire.pack(wire.Ask(id="x" * 5000, parent="", prompt="", password=False))
    with pytest.raises(ProtocolViolation, match="1024"):
        wire.decode(wire.decode_from_branch, long[4:])


@pytest.mark.parametrize(
    "frame",
    [
        wire.Stream(parent="p" * 1025, name="stdout", text="x"),
        wire.Stream(parent="", name="n" * 129, text="x"),
        wire.Publish(parent="", kind="k" * 129, content=b"{}"),
        wire.Ask(id="1", parent="", prompt="p" * (wire.MAX_SAID + 1), password=False),
        wire.Got(parent="1", error="e" * (wire.MAX_SAID + 1)),
        wire.Ready(branch=1, info=b"x" * (wire.MAX_INFO + 1)),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_what_a_branch_says_beside_its_content_is_short(frame):
    with pytest.raises(ProtocolViolation, match="length"):
        wire.decode(wire.decode_from_branch, wire.pack(frame)[4:])


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -float("inf"), -1.0, 1e9])
@pytest.mark.parametrize("name", ["pause", "spent"])
def test_what_a_copy_is_said_to_have_taken_is_a_time(seconds: float, name: str) -> None:
    def decoded(said: float) -> wire.Froze:
        frame = wire.Froze(parent="1", **{name: said})
        return wire.decode(wire.decode_from_branch, wire.pack(frame)[4:])

    assert getattr(decoded(0.5), name) == 0.5, "the control"
    with pytest.raises(ProtocolViolation, match="float"):
        decoded(seconds)

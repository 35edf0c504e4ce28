"""What comes from outside, by chance: frames that were whole once, contents of any shape, amounts.

Each is a value or the one error that callers expect, within bounded time and memory. ``make fuzz``
runs more of the same.
"""

from __future__ import annotations

import json
import math
import struct
import time
import tracemalloc
from typing import Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from kernel_runtime import result, wire
from kernel_runtime.domain.errors import Invalid, KernelRuntimeError, ProtocolViolation
from kernel_runtime.domain.limits import FLOORS, Limits, parse_limits
from kernel_runtime.jupyter.contents import read_published

_text = st.text(max_size=30)
_data = st.binary(max_size=100)
_frames = st.one_of(
    st.builds(wire.Ready, branch=st.integers(0, 2**31), info=_data),
    st.builds(wire.Stream, parent=_text, name=_text, text=_text),
    st.builds(wire.Publish, parent=_text, kind=_text, content=_data, buffers=st.lists(_data, max_size=3)),
    st.builds(wire.Ask, id=_text, parent=_text, prompt=_text, password=st.booleans()),
    st.builds(wire.Reply, parent=_text, kind=_text, content=_data),
    st.builds(wire.Done, parent=_text),
)
_from_init = st.one_of(
    st.builds(wire.Failed, wall=_text, error=_text),
    st.builds(wire.Forked, branch=st.integers(0, 2**31), pid=st.integers(0, 2**31)),
    st.builds(wire.Exited, branch=st.integers(0, 2**31), status=st.integers(-64, 255)),
)
_changes = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=20,
)
_KINDS = ("display_data", "execute_result", "update_display_data", "clear_output", "error", "comm_open",
          "comm_msg", "comm_close", "stream", "status", "no_such_kind", "")  # fmt: skip
_FIELDS = ("data", "metadata", "transient", "display_id", "wait", "ename", "evalue", "traceback", "comm_id",
           "target_name", "target_module", "text/html", "application/javascript", "execution_count")  # fmt: skip
_named = st.dictionaries(st.sampled_from(_FIELDS) | _text, _json, max_size=6)
#: As much as a frame of a few hundred bytes may ever need.
_MOST = 4 * 2**20


def _mutated(frame: msgspec.Struct, changes: list[tuple[int, int]]) -> bytes:
    data = bytearray(wire.pack(frame))
    for place, value in changes:
        data[place % len(data)] = value
    return bytes(data)


def _read(decoder: Any, data: bytes) -> None:
    """Frames, waiting bytes or a violation: never more, never for long."""
    reader = wire.FrameReader(decoder)
    tracemalloc.start()
    begun = time.process_time()
    try:
        reader.feed(data)
        list(reader.frames())
    except ProtocolViolation:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < _MOST
    assert time.process_time() - begun < 30


@given(_frames, _changes)
def test_mutated_frames_of_a_branch(frame: wire.Frame, changes: list[tuple[int, int]]) -> None:
    _read(wire.decode_from_branch, _mutated(frame, changes))


@given(_from_init, _changes)
def test_mutated_frames_of_a_first_process(frame: wire.Frame, changes: list[tuple[int, int]]) -> None:
    _read(wire.decode_from_init, _mutated(frame, changes))


@given(st.binary(max_size=300))
def test_any_bytes_with_a_right_length(body: bytes) -> None:
    for decoder in (wire.decode_from_branch, wire.decode_from_init, wire.decode_from_zygote):
        _read(decoder, struct.pack(">I", len(body)) + body)


@given(st.sampled_from(_KINDS), _named | _json)
def test_contents_of_any_shape(kind: str, content: object) -> None:
    """What the front sends on is JSON again, and an object."""
    data = json.dumps(content).encode()
    try:
        got = read_published(kind, data)
    except ProtocolViolation:
        return
    assert isinstance(msgspec.json.decode(msgspec.json.encode(got)), dict | type(None))


@given(st.sampled_from(_KINDS), st.binary(max_size=200))
def test_contents_that_are_no_json(kind: str, data: bytes) -> None:
    try:
        read_published(kind, data)
    except ProtocolViolation:
        pass


@given(st.sampled_from(_KINDS), _named | _json)
def test_contents_for_a_program(kind: str, content: object) -> None:
    """The Python API takes the same frames without a front."""
    collector = result.Collector(None, 10_000, None, None)
    frame = wire.Publish(parent="", kind=kind, content=json.dumps(content).encode())
    try:
        collector.take(frame)
        collector.settle()
    except ProtocolViolation:
        return
    assert sum(len(str(output)) for output in collector.result.outputs) < 100_000
    assert collector.result.stdout is not None
    assert collector.result.result is None or isinstance(collector.result.result, str)


_amounts = st.one_of(
    _text,
    st.from_regex(r"\s*-?[0-9]{0,30}(\.[0-9]{0,30})?\s*[KMGTkmgtsh%]?(i?B)?(/s)?", fullmatch=True),
    st.sampled_from(["none", "inf", "nan", "1e400", "0x10", "१२M", "1_000", "9" * 400, "\x00", "1M\n"]),
    st.integers(),
    st.floats(),
    st.none(),
)


@given(st.dictionaries(st.sampled_from(Limits.__struct_fields__) | _text, _amounts, max_size=4))
def test_amounts_of_any_form(amounts: dict[str, object]) -> None:
    """Limits that are finite and enough to live with, or an error that names the place."""
    try:
        limits = parse_limits(amounts)
    except Invalid as error:
        assert str(error).startswith("limits")
        return
    for name in Limits.__struct_fields__:
        amount = getattr(limits, name)
        assert amount is None or (amount >= FLOORS[name] and math.isfinite(amount))


@given(st.text(max_size=300))
def test_a_parser_takes_no_time(text: str) -> None:
    begun = time.process_time()
    assume(len(text) > 3)
    for name in Limits.__struct_fields__:
        try:
            parse_limits({name: text * 50})
        except KernelRuntimeError:
            pass
    assert time.process_time() - begun < 30

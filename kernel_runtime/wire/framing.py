"""Framing: bytes into frames and back, bounded before anything is decoded."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.wire.words import MAX_CONTAINERS, MAX_DEPTH, MAX_FRAME, MAX_PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH = struct.Struct(">I")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_AS_PARENS = bytes.maketrans(b"[]{}", b"()()")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_encoder = msgspec.msgpack.Encoder()
_object = msgspec.json.Decoder(dict[str, Any])


def pack(frame: msgspec.Struct, limit: int = MAX_FRAME) -> bytes:
    """A frame as bytes, length in front; ``ProtocolViolation`` when it exceeds ``limit``."""
    body = _encoder.encode(frame)
    if len(body) > limit:
        raise ProtocolViolation(f"a frame of {len(body)} bytes exceeds the limit of {limit}")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a byte stream into frames; bounded in size before anything is decoded.

    ``feed`` takes bytes as they arrive, ``frames`` yields what is complete. A length beyond
    ``limit`` is a ``ProtocolViolation`` at once: its bytes are never waited for.
    """

    def __init__(self, decoder: msgspec.msgpack.Decoder[Any], limit: int = MAX_FRAME) -> None:
        self._decoder = decoder
        self._limit = limit
        self._buffer: bytes | bytearray = b""
        self._start = 0

    def feed(self, data: bytes) -> None:
        if self._start == len(self._buffer):  # most frames come whole, and are decoded where they were read
            self._buffer = data
        else:
            self._keep()
            self._buffer += data
        self._start = 0

    def _keep(self) -> None:
        """The beginning of a frame, to be added to."""
        if isinstance(self._buffer, bytearray):
            del self._buffer[: self._start]
        else:
            self._buffer = bytearray(memoryview(self._buffer)[self._start :])

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete; more than 0 at the end: cut mid-frame."""
        return len(self._buffer) - self._start

    def frames(self) -> Iterator[Any]:
        while True:
            start, there = self._start + _LENGTH.size, len(self._buffer)
            if there < start:
                return
            (size,) = _LENGTH.unpack_from(self._buffer, self._start)
            if size > self._limit:
                raise ProtocolViolation(f"a frame of {size} bytes exceeds the limit of {self._limit}")
            end = start + size
            if there < end:
                return
            self._start = end
            with memoryview(self._buffer)[start:end] as body:
                frame = decode(self._decoder, body)
            yield frame


def decode(decoder: msgspec.msgpack.Decoder[Any], body: bytes | memoryview) -> Any:
    """One frame's body → its struct; ``ProtocolViolation`` for anything else."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise ProtocolViolation(f"not a frame: {error}") from None


def read_object(what: str, content: bytes) -> dict[str, Any]:
    """A JSON object, bounded first and rebuilt; ``ProtocolViolation`` for a malformed ``what``."""
    if content == b"{}":
        return {}
    check_json(content)
    try:
        return _object.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolViolation(f"a malformed {what}: {error}") from None


def check_json(data: bytes, depth: int = MAX_DEPTH) -> None:
    """Refuse JSON nested deeper than ``depth``, or of too many parts, before it is decoded.

    Strings are cut away first; then one pass removes one level of brackets, at the speed of
    ``bytes.replace``: what is left after ``depth`` passes is too deep (or no JSON at all).
    """
    if _containers(data) <= depth and _separators(data) <= MAX_PARTS:
        return
    if data.count(b'"') - data.count(b'\\"') > MAX_PARTS:  # an escaped one belongs to a text
        raise ProtocolViolation(f"JSON of more than {MAX_PARTS} strings")
    bare = _STRING.sub(b"", data)
    if _containers(bare) > MAX_CONTAINERS or _separators(bare) > MAX_PARTS:
        raise ProtocolViolation(f"JSON of more than {MAX_PARTS} values or {MAX_CONTAINERS} lists and objects")
    _check_depth(bare.translate(_AS_PARENS, _NOT_BRACKETS), depth)


def _containers(data: bytes) -> int:
    return data.count(b"[") + data.count(b"{")


def _separators(data: bytes) -> int:
    return data.count(b",") + data.count(b":")


def _check_depth(brackets: bytes, depth: int) -> None:
    for left in range(depth, 0, -1):
        if not brackets:
            return
        size = len(brackets)
        brackets = brackets.replace(b"()", b"")
        # Each innermost pair lies within at most ``left`` pairs: fewer of them, and it is too deep.
        if (size - len(brackets)) * left < size:
            break
    if brackets:
        raise ProtocolViolation(f"JSON nested deeper than {depth}")

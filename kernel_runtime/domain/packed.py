"""Plain data as MessagePack: what capabilities take and give. Bounded before it is decoded.

Plain are nothing, truth values, numbers, text, bytes, lists, maps and moments in time (with their offset).
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.amounts import MIB, show_bytes
from kernel_runtime.domain.errors import Invalid, ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Generator

#: Bytes of the arguments of one call, and of its answer.
MAX_ARGUMENTS, MAX_ANSWER = 16 * MIB, 48 * MIB
MAX_DEPTH = 64
#: Values, and bytes that each takes in memory beside its own.
MAX_PARTS, PART = 200_000, 80
#: Values that are walked over at a time: a fraction of a millisecond.
STEP = 4096
#: A moment is the extension -1 in 4, 8 or 12 bytes: how it begins, and bytes of the whole value.
_LONG_MOMENT = 15
_MOMENTS = {b"\xd6\xff": 6, b"\xd7\xff": 10, b"\xc7\x0c": _LONG_MOMENT}

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


def _refuse(code: int, data: memoryview) -> None:
    raise ProtocolViolation(f"data with an extension that is not known: {code}")


_strict = msgspec.msgpack.Decoder(ext_hook=_refuse)


def pack(value: object, most: int = MAX_ARGUMENTS) -> bytes:
    """A value → bytes; ``Invalid`` for what is no plain data, is too deep or too large."""
    return vetted(encoded(value, most))


def encoded(value: object, most: int = MAX_ARGUMENTS) -> bytes:
    """The first half of it: quick, whatever the value."""
    try:
        data = _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Invalid(f"only plain data can be passed (numbers, text, bytes, lists, maps): {error}") from None
    if len(data) > most:
        raise Invalid(
            f"{show_bytes(len(data))} are more than the {show_bytes(most)} that can be passed at once"
        )
    return data


def vetted(data: bytes) -> bytes:
    """The second half: the data, if it is within bounds."""
    try:
        check(data, len(data)) if len(data) > MAX_DEPTH else _strict.decode(data)
    except ProtocolViolation as error:
        raise Invalid(str(error)) from None
    return data


def unpack(data: bytes, most: int = MAX_ARGUMENTS) -> Any:
    """Bytes → the value; ``ProtocolViolation`` for anything that is out of bounds or no plain data."""
    return weighed(data, most)[0]


def weighed(data: bytes, most: int = MAX_ARGUMENTS) -> tuple[Any, int]:
    """The same, and bytes of memory that it takes, at most."""
    parts = len(data)  # what is short cannot be deep, or much
    if len(data) > MAX_DEPTH:
        parts = check(data, most)
    return decoded(data, parts)


def decoded(data: bytes, parts: int) -> tuple[Any, int]:
    """The same of data that was walked over, and has so many values. While many are made none is garbage: to look
    for it would take longer than all else."""
    collects = parts > STEP and gc.isenabled()
    if collects:
        gc.disable()
    try:
        return _strict.decode(data), len(data) + parts * PART
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError, TypeError) as error:
        raise ProtocolViolation(f"not plain data: {error}") from None
    finally:
        if collects:
            gc.enable()


def pack_answer(value: object) -> bytes:
    """The same for what the host answers: as many values as fit."""
    data = _encoder.encode(value)
    if len(data) > MAX_ANSWER:
        raise Invalid(
            f"an answer of {len(data)} bytes exceeds the limit of {MAX_ANSWER}: ask for less at once"
        )
    return data


def unpack_answer(data: bytes) -> Any:
    """Inside: what the host answered."""
    return _decoder.decode(data)


def check(data: bytes, most: int = MAX_ARGUMENTS) -> int:
    """Walk over the values without making any of them; how many there are."""
    walk = walked(data, most)
    while True:
        try:
            next(walk)
        except StopIteration as end:
            return int(end.value)


def walked(data: bytes, most: int = MAX_ARGUMENTS) -> Generator[None, None, int]:
    """The same in steps of about ``STEP`` values, between which it yields: who has others to see to walks so."""
    if len(data) > most:
        raise ProtocolViolation(f"{len(data)} bytes exceed the limit of {most}")
    try:
        at, parts = yield from _walked(data)
    except IndexError:
        raise ProtocolViolation("data that ends in the middle") from None
    if at != len(data):
        raise ProtocolViolation("data that does not end where it should")
    return parts


def _walked(data: bytes) -> Generator[None, None, tuple[int, int]]:
    """Where the first value ends, and how many it is. ``left``: values still to come of the list or map at hand;
    ``outer``: of those around it. A guest chooses what is slow here: each value costs a few lookups."""
    sizes, inners, at, parts, left, budget = _SIZES, _INNERS, 0, 1, 1, STEP
    outer: list[int] = []
    while left:
        run, inner = min(budget, left), 0
        for come in range(1, run + 1):
            lead = data[at]
            if size := sizes[lead]:
                at += size
                continue
            if inner := inners[lead]:
                at += 1
            elif lead in _SHORT:
                at += 2 + data[at + 1]
            else:
                at, inner = _headed(data, at)
            if inner:
                left, budget, parts = left - come, budget - come, parts + inner
                if parts > MAX_PARTS or len(outer) >= MAX_DEPTH:
                    raise ProtocolViolation(
                        f"data of more than {MAX_PARTS} values, or nested deeper than {MAX_DEPTH}"
                    )
                outer.append(left)
                left = inner
                break
        else:
            left, budget = left - run, budget - run
        while not left and outer:
            left = outer.pop()
        if budget <= 0 and left:
            yield
            budget = STEP
    return at, parts


def _headed(data: bytes, at: int) -> tuple[int, int]:
    """Of a value whose size its first byte does not tell: where the next one begins, and how many lie within it."""
    if data[at] not in _COUNTED:
        return at + _moment(data, at), 0
    width, each = _COUNTED[data[at]]
    if at + width >= len(data):
        raise IndexError
    count = int.from_bytes(data[at + 1 : at + 1 + width], "big")
    return (at + 1 + width + count, 0) if each == 0 else (at + 1 + width, each * count)


def _moment(data: bytes, at: int) -> int:
    size = _MOMENTS.get(data[at : at + 2], 0)
    if size == 0 or (size == _LONG_MOMENT and data[at + 2] != 0xFF):
        raise ProtocolViolation("data with an extension that is not known")
    return size


#: Numbers: bytes of the whole value.
_FIXED = {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
#: Bytes of the length, and values for each (0: it is a length in bytes).
_COUNTED = {
    0xC4: (1, 0),
    0xC5: (2, 0),
    0xC6: (4, 0),
    0xD9: (1, 0),
    0xDA: (2, 0),
    0xDB: (4, 0),
    0xDC: (2, 1),
    0xDD: (4, 1),
    0xDE: (2, 2),
    0xDF: (4, 2),
}


#: Text and bytes whose length takes one byte.
_SHORT = (0xD9, 0xC4)


def _size(lead: int) -> int:
    """Bytes of a value with this first byte; 0 where more lies within it, or where that alone does not tell."""
    if lead <= 0x80 or lead >= 0xE0 or lead in (0x90, 0xC0, 0xC2, 0xC3):
        return 1
    return 1 + (lead & 0x1F) if 0xA0 <= lead < 0xC0 else _FIXED.get(lead, 0)


def _inner(lead: int) -> int:
    """Values within a short map or list."""
    if 0x80 <= lead < 0x90:
        return 2 * (lead & 0xF)
    return lead & 0xF if 0x90 <= lead < 0xA0 else 0


_SIZES, _INNERS = tuple(map(_size, range(256))), tuple(map(_inner, range(256)))

"""Plain data as MessagePack: what capabilities take and give. Bounded before it is decoded.

Plain are nothing, truth values, numbers, text, bytes, lists, maps and moments in time (with their offset).
"""

from __future__ import annotations

from typing import Any

import msgspec

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.errors import Invalid, ProtocolViolation

#: Bytes of the arguments of one call, and of its answer.
MAX_ARGUMENTS, MAX_ANSWER = 16 * MIB, 48 * MIB
MAX_DEPTH = 64
#: Values, and bytes that each takes in memory beside its own.
MAX_PARTS, PART = 200_000, 80
#: A moment is the extension -1 in 4, 8 or 12 bytes.
_MOMENTS = {b"\xd6\xff": 6, b"\xd7\xff": 10, b"\xc7\x0c\xff": 15}
_LONGEST_LEAD = 5

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


def _refuse(code: int, data: memoryview) -> None:
    raise ProtocolViolation(f"data with an extension that is not known: {code}")


_strict = msgspec.msgpack.Decoder(ext_hook=_refuse)


def pack(value: object, most: int = MAX_ARGUMENTS) -> bytes:
    """A value → bytes; ``Invalid`` for what is no plain data, is too deep or too large."""
    try:
        data = _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Invalid(f"only plain data can be passed (numbers, text, bytes, lists, maps): {error}") from None
    try:
        check(data, most) if len(data) > MAX_DEPTH else _strict.decode(data)
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
    try:
        return _strict.decode(data), len(data) + parts * PART
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError, TypeError) as error:
        raise ProtocolViolation(f"not plain data: {error}") from None


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
    if len(data) > most:
        raise ProtocolViolation(f"{len(data)} bytes exceed the limit of {most}")
    at, parts, due = 0, 0, [1]
    try:
        while due:
            if due[-1] == 0:
                due.pop()
                continue
            due[-1] -= 1
            parts += 1
            at, inner = _step(data, at)
            if inner:
                due.append(inner)
            if parts + inner > MAX_PARTS or len(due) > MAX_DEPTH:
                raise ProtocolViolation(
                    f"data of more than {MAX_PARTS} values, or nested deeper than {MAX_DEPTH}"
                )
    except IndexError:
        raise ProtocolViolation("data that ends in the middle") from None
    if at != len(data):
        raise ProtocolViolation("data that does not end where it should")
    return parts


def _step(data: bytes, at: int) -> tuple[int, int]:
    """Where the next value begins, and how many lie within this one."""
    lead = data[at]
    if lead < 0x80 or lead >= 0xE0 or lead in (0xC0, 0xC2, 0xC3):
        return at + 1, 0
    if lead < 0x90:
        return at + 1, 2 * (lead & 0xF)
    if lead < 0xA0:
        return at + 1, lead & 0xF
    if lead < 0xC0:
        return at + 1 + (lead & 0x1F), 0
    if lead in _FIXED:
        return at + _FIXED[lead], 0
    if lead in _COUNTED:
        width, each = _COUNTED[lead]
        if at + width >= len(data):
            raise IndexError
        count = int.from_bytes(data[at + 1 : at + 1 + width], "big")
        return (at + 1 + width + count, 0) if each == 0 else (at + 1 + width, each * count)
    return at + _moment(data[at : at + _LONGEST_LEAD]), 0


def _moment(lead: bytes) -> int:
    for start, size in _MOMENTS.items():
        if lead.startswith(start):
            return size
    raise ProtocolViolation("data with an extension that is not known")


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

"""Arrow's IPC stream, as far as it must be judged before Arrow itself reads it.

A compressed buffer says itself how large it becomes, and 10 KB may become 10 GB; Arrow takes the
memory without asking. ``values`` never compresses, so what is compressed is refused. An extension
type's own code decodes it while the schema is read; only Arrow's and pandas' types may. Where it is
written: https://arrow.apache.org/docs/format/Columnar.html and the FlatBuffers schemas there.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTENSIONS = (b"arrow.", b"pandas.")
#: Tables may be shared in FlatBuffers, so that few bytes describe very many.
_MAX_TABLES = 200_000
#: Numbers of fields in the tables of Arrow's schema, and of the kinds of header.
_HEADER_TYPE, _HEADER = 1, 2
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_SCHEMA_FIELDS, _CHILDREN, _METADATA = 1, 5, 6
_KEY, _VALUE = 0, 1
_DICTIONARY_DATA, _COMPRESSION = 1, 3
_WORD, _OFFSET, _SLOT = struct.Struct("<I"), struct.Struct("<i"), struct.Struct("<H")


def check(data: bytes) -> None:
    """``Invalid`` if the stream has compressed buffers, or types with code of their own."""
    import pyarrow as pa

    for message in pa.ipc.MessageReader.open_stream(data):
        try:
            _check_message(message.metadata.to_pybytes())
        except (struct.error, IndexError):
            raise Invalid("value: not valid arrow: a malformed message") from None


def _check_message(message: bytes) -> None:
    root = _follow(message, 0)
    kind = _field(message, root, _HEADER_TYPE)
    header = _field(message, root, _HEADER)
    if not (kind and header):
        return
    table = _follow(message, header)
    if message[kind] == _SCHEMA:
        for name in _Schema(message).extensions(table):
            if not name.startswith(EXTENSIONS):
                raise Invalid(f"value: arrow of the extension type {name[:80].decode('utf-8', 'replace')!r}")
    elif _is_compressed(message, message[kind], table):
        raise Invalid("value: arrow with compressed buffers is not taken; write it without compression")


def _is_compressed(message: bytes, kind: int, table: int) -> bool:
    if kind == _DICTIONARY:
        data = _field(message, table, _DICTIONARY_DATA)
        return bool(data) and _is_compressed(message, _BATCH, _follow(message, data))
    return kind == _BATCH and bool(_field(message, table, _COMPRESSION))


class _Schema:
    """The fields of a schema's message."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._left = _MAX_TABLES

    def extensions(self, schema: int) -> Iterator[bytes]:
        """Names of the extension types of all fields, at every depth."""
        fields = list(self._tables(schema, _SCHEMA_FIELDS))
        while fields:
            field = fields.pop()
            for entry in self._tables(field, _METADATA):
                if _text(self._message, entry, _KEY) == b"ARROW:extension:name":
                    yield _text(self._message, entry, _VALUE)
            fields += self._tables(field, _CHILDREN)

    def _tables(self, table: int, number: int) -> Iterator[int]:
        """The tables in a vector that is a field of ``table``."""
        place = _field(self._message, table, number)
        if not place:
            return
        vector = _follow(self._message, place)
        for index in range(_at(_WORD, self._message, vector)):
            self._left -= 1
            if self._left < 0:
                raise Invalid(f"value: arrow whose schema has more than {_MAX_TABLES} parts")
            yield _follow(self._message, vector + 4 + 4 * index)


def _text(message: bytes, table: int, number: int) -> bytes:
    place = _field(message, table, number)
    if not place:
        return b""
    start = _follow(message, place)
    return message[start + 4 : start + 4 + _at(_WORD, message, start)]


def _field(message: bytes, table: int, number: int) -> int:
    """Where a table's field lies; 0 when it is not there."""
    slots = table - _at(_OFFSET, message, table)
    slot = 4 + 2 * number
    if slot >= _at(_SLOT, message, slots):
        return 0
    offset = _at(_SLOT, message, slots + slot)
    return table + offset if offset else 0


def _follow(message: bytes, place: int) -> int:
    return place + _at(_WORD, message, place)


def _at(number: struct.Struct, message: bytes, place: int) -> int:
    """A negative place would be read from the end."""
    if place < 0:
        raise IndexError(place)
    found: int = number.unpack_from(message, place)[0]
    return found

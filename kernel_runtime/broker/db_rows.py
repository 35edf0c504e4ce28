"""Rows as values that cross to a guest: plain data, or an Arrow stream.

Numbers, text, bytes, truth values and nothing stay what they are. Decimals, dates, times, UUIDs and whatever
else a database knows become text as Python writes it (dates in ISO 8601), integers of more than 64 bits, too.
"""

from __future__ import annotations

import datetime as dt
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kernel_runtime.domain.errors import Conflict, Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes of all rows together, about.
MOST_BYTES = 16 << 20
_MOST_DEPTH = 16
_FIXED = frozenset({int, float, bool, type(None)})
#: What other values of a fixed size (dates, short decimals) take at most.
_COMMON = 128
_DATES = (dt.date, dt.time)


class Rows(Protocol):
    """What a statement gives: the names of its columns (none: it gives no rows), rows, and rows changed."""

    columns: list[str]
    changed: int

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...


class Taken(msgspec.Struct, frozen=True):
    """``truncated``: there were more."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    truncated: bool
    size: int
    changed: int


def take(rows: Rows, limit: int, deadline: float, *, to_the_end: bool) -> Taken:
    """As many as there may be. ``to_the_end``: the others are read and let go, for what has written is done
    only when all of its rows were read."""
    kept: list[tuple[Any, ...]] = []
    size, truncated = 0, False
    for row in rows if rows.columns else ():
        if time.monotonic() > deadline:
            raise Conflict("it took longer than it may")
        more = size + _weights(row)
        truncated = truncated or len(kept) == limit or more > MOST_BYTES
        if not truncated:
            size = more
            kept.append(row)
        elif not to_the_end:
            break
    return Taken(rows.columns, kept, truncated, size, rows.changed)


def _weights(row: tuple[Any, ...]) -> int:
    return sum(map(_weight, row))


def _weight(value: Any) -> int:
    """What has a fixed size counts alike; long decimals, and what holds others, as what they take."""
    if type(value) in _FIXED:
        return 16
    if isinstance(value, str | bytes | memoryview):
        return len(value) + 8
    if isinstance(value, list | tuple):
        return 16 + sum(map(_weight, value))
    if isinstance(value, dict):
        return 16 + sum(map(_weight, value)) + sum(map(_weight, value.values()))
    size = sys.getsizeof(value)
    return 16 if size <= _COMMON else size


def as_plain(taken: Taken) -> tuple[dict[str, Any], int]:
    """``columns``, ``rows``, ``truncated``, and ``changed``: rows that were changed, where
    there is no answer."""
    rows = [[plain(value) for value in row] for row in taken.rows]
    value = {
        "columns": taken.columns,
        "rows": rows,
        "truncated": taken.truncated,
        "changed": 0 if taken.columns else max(0, taken.changed),
    }
    return value, taken.size


def plain(value: Any, depth: int = 0) -> Any:
    """One value; see the module."""
    if value is None or isinstance(value, bool | float | str | bytes):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    if isinstance(value, _DATES):
        return value.isoformat()
    if depth < _MOST_DEPTH and isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    if depth < _MOST_DEPTH and isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    return str(value)


def as_arrow(taken: Taken) -> tuple[bytes, int]:
    """An Arrow IPC stream; its schema's metadata say ``truncated`` (``0`` or ``1``)."""
    try:
        import pyarrow as pa
    except ImportError:
        raise Invalid("arrow: pyarrow is not installed on the host; ask for rows") from None
    if len(set(taken.columns)) != len(taken.columns):
        raise Invalid("arrow: two columns have one name; name them apart with AS")
    values = zip(*taken.rows, strict=True) if taken.rows else ((),) * len(taken.columns)
    try:
        columns = [pa.array(list(column)) for column in values]
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise Invalid(f"arrow: a column has no type of its own ({error}); ask for rows") from None
    metadata = {"truncated": "1" if taken.truncated else "0"}
    table = pa.table(columns, names=taken.columns).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data, len(data)

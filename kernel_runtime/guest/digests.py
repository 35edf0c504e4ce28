"""Digests over values: equal for equal values of one process and its copies, whatever they are.

Nothing is pickled. Arrays go by their bytes, containers and instances by what they hold; functions and
classes of the notebook by their code; the rest by its ``repr`` without addresses.
"""

from __future__ import annotations

import hashlib
import re
import sys
import types
from typing import Any

_DEPTH = 24
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_SIZE = 12
_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, range)


def digest(value: object) -> str:
    """Hexadecimal, of any value."""
    return Folding().fold(value)


class Folding:
    """One hash over a value and what it holds; deeper than 24 levels only types count."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=_SIZE)
        self._seen: dict[int, int] = {}
        self._held: list[object] = []

    def fold(self, value: object) -> str:
        self._add(value, 0)
        return self._hash.hexdigest()

    def _say(self, text: str) -> None:
        self._hash.update(text.encode("utf-8", "surrogatepass"))
        self._hash.update(b"\0")

    def _add(self, value: Any, depth: int) -> None:
        kind = type(value)
        self._say(f"{kind.__module__}.{kind.__qualname__}")
        if kind in _PLAIN:
            self._add_plain(value)
        elif depth > _DEPTH:
            return
        elif id(value) in self._seen:
            self._say(f"again {self._seen[id(value)]}")
        else:
            self._seen[id(value)] = len(self._seen)
            self._held.append(value)  # so that no other object takes its id meanwhile
            self._add_held(value, depth + 1)

    def _add_plain(self, value: Any) -> None:
        if isinstance(value, (bytes, bytearray)):
            self._say(str(len(value)))
            self._hash.update(value)
        else:
            self._say(repr(value))

    def _add_held(self, value: Any, depth: int) -> None:
        if (data := as_bytes(value)) is not None:
            for text, block in data:
                self._say(text)
                self._hash.update(block)
        elif isinstance(value, dict):
            for key, item in dict.items(value):
                self._add(key, depth)
                self._add(item, depth)
        elif isinstance(value, (set, frozenset)):
            self._say(" ".join(sorted(digest(item) for item in value)))
        elif isinstance(value, (list, tuple)):
            for item in value:
                self._add(item, depth)
        else:
            self._add_object(value, depth)
        if isinstance(value, (dict, list, tuple, set, frozenset)):
            self._say("end")

    def _add_object(self, value: Any, depth: int) -> None:
        if isinstance(value, types.FunctionType):
            self._add_code(value.__code__, depth)
            self._add([value.__defaults__, value.__kwdefaults__], depth)
            self._add([_content(cell) for cell in value.__closure__ or ()], depth)
        elif isinstance(value, type):
            self._add_class(value, depth)
        elif state := state_of(value):
            self._add(state, depth)
        else:
            self._say(_ADDRESS.sub("", safe_repr(value)))

    def _add_code(self, code: types.CodeType, depth: int) -> None:
        self._hash.update(code.co_code)
        self._say(" ".join((code.co_name, *code.co_names, *code.co_varnames)))
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._add_code(constant, depth)
            else:
                self._add(constant, depth)

    def _add_class(self, value: type, depth: int) -> None:
        self._say(f"{value.__module__}.{value.__qualname__}")
        if value.__module__ != "__main__":
            return
        for name, item in list(vars(value).items()):
            if not name.startswith("__") or name in ("__init__", "__call__"):
                self._say(name)
                self._add(getattr(item, "__func__", item), depth)


def state_of(value: Any) -> dict[str, Any]:
    """The attributes of an instance, whether in a dict or in slots."""
    state = {}
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if isinstance(name, str) and hasattr(value, name):
                state[name] = getattr(value, name)
    held = getattr(value, "__dict__", None)
    return state | held if isinstance(held, dict) else state


def as_bytes(value: Any) -> list[tuple[str, Any]] | None:
    """Arrays and tables as blocks of bytes, each with what must be equal beside it; else None."""
    numpy, pandas, arrow = (sys.modules.get(name) for name in ("numpy", "pandas", "pyarrow"))
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) and not value.dtype.hasobject:
        return [(f"{value.dtype.str} {value.shape}", _raw(value))]
    if pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series, pandas.Index)):
        return [(f"{kind} {label!r}", column.tobytes()) for label, kind, column in columns_of(value)]
    if arrow is not None and isinstance(value, (arrow.Table, arrow.RecordBatch)):
        return [("arrow", _stream(value))]
    return None


def _raw(value: Any) -> Any:
    """The bytes of an array, where they lie if they lie in a row."""
    is_row = (
        getattr(value, "flags", None) is not None and value.flags.c_contiguous and value.ndim and value.size
    )
    return value.reshape(-1).view("u1") if is_row else value.tobytes()


def _stream(table: Any) -> Any:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return sink.getvalue()


def columns_of(table: Any) -> list[tuple[Any, str, Any]]:
    """A pandas object column by column, the index first: label, type, a number for each cell."""
    import pandas as pd

    if isinstance(table, pd.Index):
        return [(table.name, str(table.dtype), _cells(table.to_series()))]
    index = ("index", str(table.index.dtype), _cells(table.index.to_series()))
    if isinstance(table, pd.Series):
        return [index, (table.name, str(table.dtype), _cells(table))]
    rest = [
        (label, str(table.dtypes.iloc[place]), _cells(table.iloc[:, place]))
        for place, label in enumerate(table.columns)
    ]
    return [index, *rest]


def _cells(column: Any) -> Any:
    import numpy as np
    import pandas as pd

    try:
        return pd.util.hash_pandas_object(column, index=False).to_numpy()
    except TypeError:  # cells that have no hash: lists, dicts
        return np.array([int(digest(item)[:15], 16) for item in column], dtype="u8")


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def safe_repr(value: object) -> str:
    """``repr``, or the error of it: user code."""
    try:
        return str(repr(value))
    except Exception as error:  # noqa: BLE001 - whatever a __repr__ does
        return f"<{type(value).__name__}: {type(error).__name__} in repr>"

"""Digests over values: equal for equal values of one process and its copies, whatever they are.

Nothing is pickled. Arrays go by their bytes, containers and instances by what they hold; functions and
classes of the notebook by their code; the rest by its ``repr`` without addresses, and it is said that
there may be more.
"""

from __future__ import annotations

import hashlib
import re
import sys
import types
from typing import TYPE_CHECKING, Any

from kernel_runtime.guest.contents import all_slots, content_of, content_of_cell, has_hidden_state, slots_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DEPTH = 24
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_SIZE = 12
_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, range)
_EXACT = (dict, list, tuple, set, frozenset)
#: Modules whose objects tell all of themselves.
_TOLD = ("datetime", "decimal", "fractions", "uuid")
#: Of a class's own names with two underscores those that are no function but part of its definition.
_DEFINING = ("__annotations__", "__annotate_func__", "__doc__", "__match_args__", "__slots__")
_METHODS = (types.FunctionType, staticmethod, classmethod, property)


def digest(value: object) -> str:
    """Hexadecimal, of any value."""
    return Folding().fold(value)


class Folding:
    """One hash over a value and what it holds. ``unread``: what in it could not be looked into, if anything;
    ``met``: variables whose very objects it holds, of ``owners`` by the objects' ids."""

    def __init__(self, owners: Mapping[int, Sequence[str]] | None = None) -> None:
        self.unread = ""
        self.met: set[str] = set()
        self._owners = owners or {}
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
            self._miss(f"deeper than {_DEPTH} levels")
        elif id(value) in self._seen:
            self._say(f"again {self._seen[id(value)]}")
        else:
            self._seen[id(value)] = len(self._seen)
            self.met.update(self._owners.get(id(value), ()))
            self._held.append(value)  # so that no other object takes its id meanwhile
            self._add_held(value, depth + 1)

    def _miss(self, what: str) -> None:
        self.unread = self.unread or what

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
            if held := attributes_of_array(value):
                self._add(held, depth)
        elif isinstance(value, _EXACT):
            self._add_items(value, depth)
        elif isinstance(value, (types.FunctionType, types.CodeType, types.ModuleType, type)):
            self._add_definition(value, depth)
        elif type(value).__module__ in _TOLD:
            self._say(repr(value))
        elif not _is_loop(value):  # a loop is the guest's own, and goes on by itself
            self._add_object(value, depth)

    def _add_items(self, value: Any, depth: int) -> None:
        if isinstance(value, dict):
            for key, item in dict.items(value):
                self._add(key, depth)
                self._add(item, depth)
        elif isinstance(value, (set, frozenset)):
            self._say(" ".join(sorted(self._apart(item, depth) for item in value)))
        else:
            for item in value:
                self._add(item, depth)
        self._say("end")
        if type(value) not in _EXACT:
            self._add([getattr(value, "default_factory", None), state_of(value)], depth)

    def _apart(self, item: Any, depth: int) -> str:
        """The digest of a set's item: sets have no order."""
        folding = Folding()
        folding._add(item, depth)
        self._miss(folding.unread)
        return folding._hash.hexdigest()

    def _add_definition(self, value: Any, depth: int) -> None:
        if isinstance(value, types.FunctionType):
            self._add_code(value.__code__, depth)
            self._add([value.__defaults__, value.__kwdefaults__, value.__dict__], depth)
            self._add([content_of_cell(cell) for cell in value.__closure__ or ()], depth)
        elif isinstance(value, types.CodeType):
            self._add_code(value, depth)
        elif isinstance(value, types.ModuleType):
            self._say(value.__name__)
        else:
            self._add_class(value, depth)

    def _add_object(self, value: Any, depth: int) -> None:
        state = state_of(value)  # first, for a ``__dict__`` comes to be when it is asked for
        content = content_of(value)
        if content is not None:
            self._add(content, depth)
        if state:
            self._add(state, depth)
        kind: Any = type(value)
        is_hidden = content is None and has_hidden_state(kind)
        if is_hidden or (content is None and not state):
            self._say(_ADDRESS.sub("", safe_repr(value)))
        if is_hidden:
            self._miss(f"{type_name(value)}{' in it' if depth > 1 else ''}")

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
        if value.__module__ == "__main__":
            self._add(list(value.__bases__), depth)
            for name, item in members_of(value).items():
                self._say(name)
                self._add(item, depth)


def _is_loop(value: Any) -> bool:
    events = sys.modules.get("asyncio.events")
    return events is not None and isinstance(value, events.AbstractEventLoop)


def type_name(value: object) -> str:
    """As it is written in code, without the modules between."""
    kind = type(value)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def members_of(kind: type) -> dict[str, Any]:
    """What the body of a class defines: not what Python adds to it, and not what libraries keep there."""
    slots = {*slots_of(kind), "_abc_impl"}
    return {
        name: item
        for name, item in list(vars(kind).items())
        if name not in slots
        and (not name.startswith("__") or name in _DEFINING or isinstance(item, _METHODS))
    }


def state_of(value: Any) -> dict[str, Any]:
    """The attributes of an instance, whether in a dict or in slots."""
    kind: Any = type(value)
    state = {name: getattr(value, name) for name in all_slots(kind) if hasattr(value, name)}
    held = getattr(value, "__dict__", None)
    return state | held if isinstance(held, dict) else state


def attributes_of_array(value: Any) -> dict[str, Any]:
    """What an array of a class of its own (masked, say) has beside its elements."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray) or type(value) is numpy.ndarray:
        return {}
    return {name: held for name, held in state_of(value).items() if name != "_mmap"}


def as_bytes(value: Any) -> list[tuple[str, Any]] | None:
    """Arrays and tables as blocks of bytes, each with what must be equal beside it; else None."""
    numpy, pandas, arrow = (sys.modules.get(name) for name in ("numpy", "pandas", "pyarrow"))
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) and not value.dtype.hasobject:
        return [(f"{value.dtype.str} {value.shape}", _raw(value))]
    if pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series, pandas.Index)):
        columns = [(f"{kind} {label!r}", column.tobytes()) for label, kind, column in columns_of(value)]
        return [(heading_of(value), b""), *columns]
    if arrow is not None and isinstance(value, (arrow.Table, arrow.RecordBatch)):
        return [("arrow", _stream(value))]
    if isinstance(value, memoryview):
        return [(f"{value.format} {value.shape}", value.cast("B") if _is_row(value) else value.tobytes())]
    if (array := sys.modules.get("array")) is not None and isinstance(value, array.array):
        return [(value.typecode, memoryview(value))]
    return None


def heading_of(table: Any) -> str:
    """The names that a pandas object has beside its cells, and what was noted on it."""
    axes = [table] if table.ndim == 1 and not hasattr(table, "index") else table.axes
    return f"{[list(axis.names) for axis in axes]} {getattr(table, 'attrs', '')}"


def _is_row(view: memoryview) -> bool:
    return view.c_contiguous and view.nbytes > 0


def _raw(value: Any) -> Any:
    """The bytes of an array, where they lie if they lie in a row."""
    is_row = (
        getattr(value, "flags", None) is not None and value.flags.c_contiguous and value.ndim and value.size
    )
    if not is_row:
        return value.tobytes()
    import numpy as np

    return np.asarray(value).reshape(-1).view("u1")


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
        return [(table.name, str(table.dtype), _cells(table))]
    index = ("index", str(table.index.dtype), _cells(table.index))
    if isinstance(table, pd.Series):
        return [index, (table.name, str(table.dtype), _cells(table))]
    rest = [
        (label, str(table.dtypes.iloc[place]), _cells(table.iloc[:, place]))
        for place, label in enumerate(table.columns)
    ]
    return [index, *rest]


def _cells(column: Any) -> Any:
    """pandas' own hashes, but of objects it takes the texts: these are looked into one by one."""
    import numpy as np
    import pandas as pd

    is_one_kind = isinstance(column, pd.MultiIndex) or column.dtype != object
    if is_one_kind or pd.api.types.infer_dtype(column, skipna=True) == "string":
        return pd.util.hash_pandas_object(column, index=False).to_numpy()
    return np.array([int(_cell(item)[:15], 16) for item in column], dtype="u8")


def _cell(item: Any) -> str:
    if type(item) in _PLAIN or type(item).__module__ in _TOLD:
        return hashlib.blake2b(f"{type(item).__name__} {item!r}".encode(), digest_size=8).hexdigest()
    return digest(item)


def has_address(text: str) -> bool:
    """Whether a ``repr`` tells where an object is, and so hardly what it is."""
    return _ADDRESS.search(text) is not None


def safe_repr(value: object) -> str:
    """``repr``, or the error of it: user code."""
    try:
        return str(repr(value))
    except Exception as error:  # noqa: BLE001 - whatever a __repr__ does
        return f"<{type(value).__name__}: {type(error).__name__} in repr>"

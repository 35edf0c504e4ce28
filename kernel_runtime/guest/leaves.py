"""A value as a row of places: each with a label and a text, any range of them with a digest.

So two states can find where a value differs first without sending it: see ``domain.difference``.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import types
from typing import TYPE_CHECKING, Any

from kernel_runtime.guest.contents import content_of
from kernel_runtime.guest.definitions import rows_of
from kernel_runtime.guest.digests import (
    as_bytes,
    columns_of,
    digest,
    has_address,
    safe_repr,
    state_of,
)
from kernel_runtime.guest.texts import exactly, short, short_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_BYTES_A_PLACE, _CHARACTERS_A_PLACE, _NAMES = 16, 80, 20
_CODE = (types.FunctionType, types.BuiltinFunctionType, types.CodeType)


class Leaves:
    """``count`` places; ``keyed``: by name, not by position; ``lines``: what is put in moves the others."""

    keyed = lines = False

    def __init__(self, count: int) -> None:
        self.count = count

    def label(self, place: int) -> str:
        raise NotImplementedError

    def text(self, place: int) -> str:
        raise NotImplementedError

    def digest(self, start: int, stop: int) -> str:
        raise NotImplementedError

    def item(self, place: int) -> Any:
        """The value that stands there, where places are values."""
        raise LookupError(place)


class Items(Leaves):
    """Of a list, dict, set or instance: items that are anything."""

    def __init__(self, items: Sequence[Any], label: Callable[[int], str], *, keyed: bool = False) -> None:
        super().__init__(len(items))
        self._items = items
        self._label = label
        self.keyed = keyed

    def label(self, place: int) -> str:
        return self._label(place)

    def text(self, place: int) -> str:
        return exactly(self._items[place])

    def digest(self, start: int, stop: int) -> str:
        return digest(self._items[start:stop])

    def item(self, place: int) -> Any:
        return self._items[place]


class Bytes(Leaves):
    """Bytes, sixteen a place."""

    def __init__(self, data: Any) -> None:
        self._data = memoryview(data).cast("B")
        super().__init__(-(-len(self._data) // _BYTES_A_PLACE))

    def label(self, place: int) -> str:
        return f"[{place * _BYTES_A_PLACE}:{(place + 1) * _BYTES_A_PLACE}]"

    def text(self, place: int) -> str:
        return short(self._slice(place, place + 1).tobytes())

    def digest(self, start: int, stop: int) -> str:
        return _hash(self._slice(start, stop))

    def _slice(self, start: int, stop: int) -> memoryview:
        return self._data[start * _BYTES_A_PLACE : stop * _BYTES_A_PLACE]


class Lines(Leaves):
    """Lines of text or of source: labels, texts, and what is compared."""

    lines = True

    def __init__(self, rows: list[tuple[str, str, Any]]) -> None:
        super().__init__(len(rows))
        self._rows = rows

    def label(self, place: int) -> str:
        return self._rows[place][0]

    def text(self, place: int) -> str:
        return self._rows[place][1]

    def digest(self, start: int, stop: int) -> str:
        return digest([compared for _, _, compared in self._rows[start:stop]])


class Array(Leaves):
    """A numpy array, in C order."""

    def __init__(self, array: Any) -> None:
        import numpy as np

        super().__init__(int(array.size))
        self._shape = array.shape
        self._flat = np.ascontiguousarray(array).reshape(-1)

    def label(self, place: int) -> str:
        import numpy as np

        index = np.unravel_index(place, self._shape)
        return f"[{', '.join(str(int(part)) for part in index)}]"

    def text(self, place: int) -> str:
        return short(self._flat[place])

    def digest(self, start: int, stop: int) -> str:
        return _hash(self._flat[start:stop].tobytes())


class Table(Leaves):
    """A pandas object, column by column, its index first. Of cells only the values count: types are details."""

    keyed = True

    def __init__(self, table: Any) -> None:
        self._table = table
        self._rows = len(table)
        self._columns = columns_of(table)
        super().__init__(self._rows * len(self._columns))

    def label(self, place: int) -> str:
        column, row = divmod(place, self._rows)
        if column == 0:
            return f".index[{row}]"
        key = short(self._table.index[row])
        return f"[{key}]" if self._table.ndim == 1 else f"[{short(self._columns[column][0])}][{key}]"

    def text(self, place: int) -> str:
        column, row = divmod(place, self._rows)
        if column == 0:
            return short(self._table.index[row])
        cells = self._table if self._table.ndim == 1 else self._table.iloc[:, column - 1]
        return short(cells.iloc[row])

    def digest(self, start: int, stop: int) -> str:
        hashed = hashlib.blake2b(digest_size=12)
        while start < stop:
            column, row = divmod(start, self._rows)
            end = min(self._rows, row + stop - start)
            hashed.update(self._columns[column][2][row:end].tobytes())
            start += end - row
        return hashed.hexdigest()


def leaves_of(value: Any) -> Leaves:
    """The places of a value; none where it is one thing."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and isinstance(value, numpy.ndarray) and value.ndim:
        return _row(list(value)) if value.dtype.hasobject else Array(value)
    if pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series)):
        return Table(value)
    if isinstance(value, dict):
        return _keyed(dict(value), lambda key: f"[{short(key)}]")
    if isinstance(value, (set, frozenset)):
        return _keyed({short(item): item for item in value}, lambda key: f" ∋ {key}")
    if isinstance(value, (list, tuple)) or _is_a(value, "collections", "deque"):
        return _row(list(value))
    if _is_a(value, "array", "array"):
        return _row(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (bytes, bytearray)):
        return Bytes(value)
    return _leaves_of_object(value)


def _leaves_of_object(value: Any) -> Leaves:
    if _is_a(value, "io", "BytesIO") or _is_a(value, "io", "StringIO"):
        held = "" if value.closed else value.getvalue()
        return _text(held) if isinstance(held, str) else Bytes(held)
    if isinstance(value, type) or isinstance(inspect.unwrap(value), types.FunctionType):
        return Lines(rows_of(value))
    if as_bytes(value) is not None:
        return Leaves(0)
    state, content = state_of(value), content_of(value)
    if content is None or not has_address(safe_repr(value)):
        return _keyed(state, lambda name: f".{name}")
    opened = _opened(content)
    named = [item for item in opened if isinstance(item, dict)]
    shown: list[Any] = [*named] or [opened]
    rows = [row for item in shown for row in _state(" state", item)]
    return Lines([*rows, *((f".{name}", exactly(item), item) for name, item in state.items())])


def _state(label: str, item: Any) -> list[tuple[str, str, Any]]:
    """One row, or several where it has names in it."""
    if not isinstance(item, dict) or len(item) > _NAMES:
        return [(label, short(item), item)]
    return [row for key, inner in item.items() for row in _state(f"{label}[{short(key)}]", inner)]


def _opened(content: list[Any], levels: int = 3) -> list[Any]:
    """For a text: without the code in it, and with what is in it instead of where that is."""
    opened = []
    for item in content:
        inner = content_of(item) if levels and has_address(exactly(item)) else None
        if not isinstance(item, _CODE):
            opened += [item] if inner is None else _opened(inner, levels - 1)
    return opened


def _is_a(value: Any, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(value, kind)


def _row(items: Sequence[Any]) -> Leaves:
    return Items(items, lambda place: f"[{place}]")


def _text(text: str) -> Leaves:
    """Line by line, and where one is long piece by piece; a short text is one thing."""
    lines = text.splitlines()
    if len(lines) < 2 and len(text) <= _CHARACTERS_A_PLACE:
        return Leaves(0)
    rows = []
    for number, line in enumerate(lines, 1):
        at = f" line {number}" if len(lines) > 1 else ""
        for start in range(0, max(1, len(line)), _CHARACTERS_A_PLACE):
            piece = line[start : start + _CHARACTERS_A_PLACE]
            where = "" if len(line) <= _CHARACTERS_A_PLACE else f"[{start}:{start + len(piece)}]"
            rows.append((at + where, short(piece), piece))
    return Lines(rows)


def details_of(value: Any) -> dict[str, str]:
    """Columns and names of a pandas object: labels as they are written in code, and texts."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(value, (pandas.DataFrame, pandas.Series, pandas.Index)):
        return {}
    found = {}
    if value.ndim == 1:
        found[".name"] = short(value.name)
    else:
        for label, kind in value.dtypes.items():
            found[f"[{short(label)}].dtype"] = short_text(str(kind))
    if not isinstance(value, pandas.Index):
        index = value.index
        found.update({".index.dtype": short_text(str(index.dtype)), ".index.names": short(list(index.names))})
    return found


def _keyed(items: dict[Any, Any], label: Callable[[Any], str]) -> Leaves:
    keys = _sorted(items)
    return Items([items[key] for key in keys], lambda place: label(keys[place]), keyed=True)


def _sorted(keys: Iterable[Any]) -> list[Any]:
    try:
        return sorted(keys)
    except TypeError:
        return sorted(keys, key=lambda key: (type(key).__name__, safe_repr(key)))


def _hash(data: Any) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()

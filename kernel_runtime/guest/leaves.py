"""A value as a row of places: each with a label and a text, any range of them with a digest.

So two states can find where a value differs first without sending it: see ``domain.difference``.
"""

from __future__ import annotations

import hashlib
import reprlib
import sys
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.variables import MAX_TEXT
from kernel_runtime.guest.digests import as_bytes, columns_of, digest, safe_repr, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_BYTES_A_PLACE = 16
_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = MAX_TEXT
_short.maxlevel = 3


class Leaves:
    """``count`` places; ``keyed``: by name, not by position."""

    keyed = False

    def __init__(self, count: int) -> None:
        self.count = count

    def label(self, place: int) -> str:
        raise NotImplementedError

    def text(self, place: int) -> str:
        raise NotImplementedError

    def digest(self, start: int, stop: int) -> str:
        raise NotImplementedError


class Items(Leaves):
    """Of a list, dict, set or instance: items that are anything."""

    def __init__(self, items: list[Any], label: Callable[[int], str], *, keyed: bool = False) -> None:
        super().__init__(len(items))
        self._items = items
        self._label = label
        self.keyed = keyed

    def label(self, place: int) -> str:
        return self._label(place)

    def text(self, place: int) -> str:
        return short(self._items[place])

    def digest(self, start: int, stop: int) -> str:
        return digest(self._items[start:stop])


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
        return short(self._flat[place].item())

    def digest(self, start: int, stop: int) -> str:
        return _hash(self._flat[start:stop].tobytes())


class Table(Leaves):
    """A pandas object, column by column, its index first."""

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
            hashed.update(self._columns[column][1].encode())
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
    if isinstance(value, (list, tuple)):
        return _row(list(value))
    if isinstance(value, str):
        lines = value.splitlines()
        return Items(lines, lambda place: f" line {place + 1}") if len(lines) > 1 else Leaves(0)
    if isinstance(value, (bytes, bytearray)):
        return _row_of_bytes(bytes(value))
    if isinstance(value, type) or callable(value) or as_bytes(value) is not None:
        return Leaves(0)
    return _keyed(state_of(value), lambda name: f".{name}")


def _row(items: list[Any]) -> Leaves:
    return Items(items, lambda place: f"[{place}]")


def _row_of_bytes(data: bytes) -> Leaves:
    pieces = [data[start : start + _BYTES_A_PLACE] for start in range(0, len(data), _BYTES_A_PLACE)]
    return Items(pieces, lambda place: f"[{place * _BYTES_A_PLACE}:{(place + 1) * _BYTES_A_PLACE}]")


def _keyed(items: dict[Any, Any], label: Callable[[Any], str]) -> Leaves:
    keys = _sorted(items)
    return Items([items[key] for key in keys], lambda place: label(keys[place]), keyed=True)


def _sorted(keys: Iterable[Any]) -> list[Any]:
    try:
        return sorted(keys)
    except TypeError:
        return sorted(keys, key=lambda key: (type(key).__name__, safe_repr(key)))


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def short(value: object) -> str:
    """A bounded text of anything, on one line."""
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "item"):
        value = value.item() if getattr(value, "size", 0) == 1 else value
    try:
        text = _short.repr(value)
    except Exception as error:  # noqa: BLE001 - whatever a __repr__ does
        text = f"<{type(value).__name__}: {type(error).__name__} in repr>"
    text = " ".join(str(text).split())
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"

"""The second look: what was pickled is unpickled again and compared with what it was.

Only groups with types whose own pickling hooks might lose something are looked at. Compared is
what can be seen without calling methods of the values: types, contents, attributes, and what
``__reduce_ex__`` says of both.
"""

from __future__ import annotations

import array
import sys
import types
from typing import TYPE_CHECKING, Any

from kernel_runtime.sdk.checkpoint import recipes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ATOMS = (int, float, complex, str, bytes, bytearray, bool, type(None), range, slice, array.array)
_SAME = (type, types.FunctionType, types.ModuleType)
#: Keys that are the same in the copy, and found by what they are.
_KEYS = (int, float, complex, str, bytes, bool, type(None))
#: Their figures count what is made anew in them, and are in another order then.
DRAWING = frozenset({"matplotlib", "mpl_toolkits", "plotly"})
#: More pairs than this are not looked at.
_MOST = 200_000

_Pair = tuple[Any, Any]


class Differs(Exception):
    """The copy is not what was saved."""


def compare(
    value: Any, copy: Any, doubtful: Iterable[type], is_same: Callable[[type, type], bool]
) -> str | None:
    """How ``copy`` differs from ``value``; None where it does not. ``is_same``: whether a type is that
    of which the other is the copy."""
    kinds = tuple(doubtful)
    todo: list[_Pair] = [(value, copy)]
    seen: set[tuple[int, int]] = set()  # one number may be right in one place, and wrong in another
    kept: list[Any] = []  # what is made here must not give its id to another
    try:
        while todo and len(seen) < _MOST:
            one, other = todo.pop()
            if (id(one), id(other)) not in seen:
                seen.add((id(one), id(other)))
                if not is_same(type(one), type(other)):
                    raise Differs(f"a {type(one).__name__} comes back as a {type(other).__name__}")
                pairs = list(_pairs(one, other, kinds))
                kept.append(pairs)
                todo += pairs
    except Differs as difference:
        return str(difference)
    return None


def _pairs(one: Any, other: Any, doubtful: tuple[type, ...]) -> Iterable[_Pair]:
    if isinstance(one, _SAME) or one is other or any(base in recipes for base in type(one).__mro__):
        return ()
    if not isinstance(one, doubtful) and str(type(one).__module__).partition(".")[0] in DRAWING:
        return ()
    if isinstance(one, _ATOMS):
        return _equal(one, other)
    if isinstance(one, list | tuple | dict | set | frozenset) and len(one) != len(other):
        raise Differs(f"a {type(one).__name__} of {len(one)} comes back with {len(other)}")
    pairs = list(_contents(one, other))
    if isinstance(one, doubtful):
        pairs += _attributes(one, other)
    elif type(one) not in (list, tuple, dict, set, frozenset) and not _is_array(one):
        pairs += list(zip(_state(one), _state(other), strict=False))
    return pairs


def _equal(one: Any, other: Any) -> Iterable[_Pair]:
    if one == other or one != one:  # nan
        return ()
    raise Differs(f"{one!r:.40} comes back as {other!r:.40}")


def _contents(one: Any, other: Any) -> Iterable[_Pair]:
    if isinstance(one, list | tuple):
        return zip(one, other, strict=True)
    if isinstance(one, dict):
        return _items(one, other)
    if _is_array(one):
        return _arrays(one, other)
    return ()


def _items(one: dict[Any, Any], other: dict[Any, Any]) -> Iterable[_Pair]:
    """Values by their key: a hook may put them in another order. Keys that have hooks themselves, in theirs."""
    (mine, odd), (theirs, others) = _by_key(one), _by_key(other)
    if lost := [key for key in mine if key not in theirs]:
        raise Differs(f"a {type(one).__name__} comes back without {lost[0][1]!r:.40}")
    yield from ((value, theirs[key]) for key, value in mine.items())
    yield from zip(odd, others, strict=False)


def _by_key(values: dict[Any, Any]) -> tuple[dict[Any, Any], list[Any]]:
    """Those with plain keys (and their types: 1 is no True), and the other keys, each with its value behind it."""
    plain, odd = {}, []
    for key, value in dict.items(values):
        if type(key) in _KEYS and key == key:  # a nan is not
            plain[type(key), key] = value
        else:
            odd += [key, value]
    return plain, odd


def _attributes(one: Any, other: Any) -> list[_Pair]:
    """Attributes of both, and what their own hooks say."""
    mine, theirs = getattr(one, "__dict__", {}), getattr(other, "__dict__", {})
    lost = sorted(set(mine) - set(theirs))
    if lost and type(one).__dict__.get("__getstate__") is None:
        raise Differs(f"a {type(one).__name__} comes back without {', '.join(lost)}")
    shared = [(mine[name], theirs[name]) for name in mine if name in theirs]
    return shared + list(zip(_state(one), _state(other), strict=False))


def _state(value: Any) -> list[Any]:
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 — its hooks are user code; it was pickled by another way
        return []
    if isinstance(reduced, str):
        return []
    return [part if isinstance(part, list | tuple | dict) or part is None or callable(part) else
            list(part) if hasattr(part, "__next__") else part for part in reduced]  # fmt: skip


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _arrays(one: Any, other: Any) -> Iterable[_Pair]:
    if one.shape != other.shape or one.dtype != other.dtype:
        raise Differs(f"an array {one.dtype}{one.shape} comes back as {other.dtype}{other.shape}")
    if one.dtype.hasobject:
        return zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)
    if one.tobytes() != other.tobytes():
        raise Differs(f"an array {one.dtype}{one.shape} comes back with other values")
    return ()

"""Plain collections: texts and numbers in lists, dicts, sets and tuples that only one value holds each.

Nothing in one can be held by another variable, so that nobody need walk through it for what variables
share. And all that it can hold twice are texts: these are pickled first. For the rest the pickler
needs no memo of what it has met, which takes most of its time.
"""

from __future__ import annotations

import gc
import sys
from itertools import chain, compress, islice
from types import NoneType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kernel_runtime.guest.checkpoint_pickler import Pickler

Texts = list[str | bytes]
#: Exactly these: an instance of a subclass has attributes, and hooks. Pickle remembers no numbers.
_NUMBERS = {int, float, bool, NoneType}
_TEXTS = {str, bytes}
#: (Without a memo, pickle takes a few dozen frozensets for one that holds itself.)
_COLLECTIONS = {list, dict, set, tuple}
#: Those that are looked into as variables. (Whoever holds the same tuple looks into it for himself.)
_VARIABLES = (list, dict, set)
#: Values that are looked at together: about as many as a processor's cache holds.
_PIECE = 1_000
#: Collections that hold more together are opened one after another.
_MOST_OPENED = 100_000
#: More texts than this that may be there twice are not told from the others: each has a number in the stream.
_MOST_TEXTS = 1 << 16
#: Columns of rows that are wider cost more than they save.
_WIDEST = 32
#: What ``getrefcount`` says, in a ``map``, of a value that a list and one other value hold.
HELD_ONCE = 1 + next(map(sys.getrefcount, [[]]))


class Plain:
    """Stands in a stream for ``value``: unpickled, it is the value. The last that ``pickler`` is given."""

    def __init__(self, value: Any, texts: Texts, pickler: Pickler) -> None:
        self._made = (_last, (texts, _Forgetful(pickler), value))

    def __reduce__(self) -> Any:
        return self._made


class _Forgetful:
    """Pickled, it has the pickler remember nothing of what follows; what it had met before, it knows."""

    def __init__(self, pickler: Pickler) -> None:
        self._pickler = pickler

    def __reduce__(self) -> Any:
        self._pickler.fast = True
        return bool, ()


def _last(_texts: Any, _forgetful: Any, value: Any) -> Any:
    return value


def without_memo(values: dict[str, Any], texts: Texts | None, pickler: Pickler) -> dict[str, Any]:
    """What to pickle: a variable that is plain, with its texts; others (``texts`` is None) as they are."""
    if texts is None:
        return values
    return {name: Plain(value, texts, pickler) for name, value in values.items()}


def texts_of(value: Any) -> Texts | None:
    """Texts that ``value`` may hold more than once; None if it is not plain. Runs no code of the user's."""
    try:
        return _Look(_pieces(value)).texts() if type(value) in _VARIABLES else None
    except _NotPlainError:
        return None


def seems(value: Any) -> bool:
    """Whether it may be plain, by its ends: most that is not is found there."""
    if type(value) not in _VARIABLES:
        return False
    try:
        _Look(islice(_pieces(value), 1))
        _Look(islice(_pieces(value, backwards=True), 1))
    except _NotPlainError:
        return False
    return True


def _pieces(value: Any, *, backwards: bool = False) -> Iterator[list[Any]]:
    """What a collection holds, in lists that nobody keeps."""
    held: list[Any] = [value, value.values()] if type(value) is dict else [value]
    order = reversed if backwards and type(value) is not set else iter
    return chain.from_iterable(_cut(order(values)) for values in held)


def _cut(values: Iterator[Any]) -> Iterator[list[Any]]:
    return iter(lambda: list(islice(values, _PIECE)), [])


class _NotPlainError(Exception):
    """It holds something that is of another type, or that somebody else may hold."""


class _Look:
    """Looks at all that is in ``pieces``. Each list in ``_todo`` is the only one with these values, beside
    what they were found in: their counts of references say then who else holds them."""

    def __init__(self, pieces: Iterator[list[Any]]) -> None:
        self._texts: dict[int, str | bytes] = {}
        self._todo: list[list[Any]] = []
        for piece in pieces:
            self._todo.append(piece)
            del piece
            while self._todo:
                self._take(self._todo.pop())

    def texts(self) -> Texts:
        """In an order that does not depend on where they were met."""
        met = self._texts.values()
        return [text for kind in (str, bytes) for text in sorted(one for one in met if type(one) is kind)]

    def _take(self, values: list[Any]) -> None:
        if self._has_all(values):
            return
        kinds = set(map(type, values))
        interesting = kinds - _NUMBERS
        if not interesting:
            return
        if len(kinds) > 1:
            self._todo += [[value for value in values if type(value) is kind] for kind in interesting]
        elif interesting == {tuple} and not all(values):  # there is but one empty tuple, which all share
            self._todo.append(list(filter(None, values)))
        elif kinds <= _TEXTS:
            self._note(values)
        elif kinds <= _COLLECTIONS:
            self._open(kinds.pop(), values)
        else:
            raise _NotPlainError

    def _open(self, kind: type, collections: list[Any]) -> None:
        if max(map(sys.getrefcount, collections)) > HELD_ONCE:
            raise _NotPlainError
        size, middle = sum(map(len, collections)), len(collections) // 2
        if size > _MOST_OPENED and middle:
            self._todo += [collections[:middle], collections[middle:]]
            return
        held = gc.get_referents(*collections)
        if kind is dict:
            self._note_keys(list(chain.from_iterable(collections)))
            if len(held) != size:  # their keys are among them
                held = list(chain.from_iterable(map(dict.values, collections)))
        self._todo += _columns(held, len(collections[0]))

    def _note_keys(self, keys: list[Any]) -> None:
        """Keys of dicts. Dicts may share these without holding them: their counts say nothing."""
        if self._has_all(keys):
            return
        kinds = set(map(type, keys))
        if not kinds <= _TEXTS | _NUMBERS:
            raise _NotPlainError
        if kinds & _TEXTS:
            self._add(key for key in keys if type(key) in _TEXTS)

    def _note(self, texts: list[Any]) -> None:
        """Those that more than one value holds: they may be met again."""
        if max(map(sys.getrefcount, texts)) <= HELD_ONCE:
            return
        shared = list(map(HELD_ONCE.__lt__, map(sys.getrefcount, texts)))
        self._add(compress(texts, shared))

    def _has_all(self, values: list[Any]) -> bool:
        """Whether all of them are among the texts: another list of them adds as many references there."""
        if len(self._texts) * 4 > len(values):
            return False
        before = sum(map(sys.getrefcount, self._texts.values()))
        others = values[:]
        return sum(map(sys.getrefcount, self._texts.values())) - before == len(others)

    def _add(self, texts: Iterable[str | bytes]) -> None:
        self._texts.update((id(text), text) for text in texts)
        if len(self._texts) > _MOST_TEXTS:
            raise _NotPlainError


def _columns(values: list[Any], width: int) -> list[list[Any]]:
    """Values of rows that are as wide: each column is likely to be of one type. Otherwise, as they are."""
    if width < 2 or width > _WIDEST or len(values) % width:
        return [values]
    return [values[start::width] for start in range(width)]

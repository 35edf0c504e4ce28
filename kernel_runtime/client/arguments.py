"""What is given to a session's methods for its states: anything of another type is ``Invalid``, which says what is wanted."""

from __future__ import annotations

import operator
import reprlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.snapshot import Budget

if TYPE_CHECKING:
    from collections.abc import Iterable


def whole(value: Any, place: str) -> int:
    """A whole number, numpy's too."""
    if not isinstance(value, bool):
        with suppress(TypeError):
            return operator.index(value)
    raise _unwanted(value, place, "a whole number, like 1")


def text(value: object, place: str, wanted: str) -> str:
    """A name; an empty one may stand for none."""
    if not isinstance(value, str):
        raise _unwanted(value, place, wanted)
    return value


def title(value: Any, place: str) -> str | int:
    """What a snapshot is called."""
    if isinstance(value, str):
        return value
    with suppress(Invalid):
        return whole(value, place)
    raise _unwanted(value, place, "a snapshot's name or number, like 'clean' or 3")


def names(value: Iterable[str] | None, place: str) -> list[str] | None:
    """Names of variables; one text is none, though it can be iterated."""
    if value is None:
        return None
    with suppress(TypeError):
        found = list(value)
        if not isinstance(value, str) and all(isinstance(name, str) for name in found):
            return found
    raise _unwanted(value, place, "a list of variables' names, like ['x', 'y']")


def budget(value: object) -> Budget:
    """What snapshots may take; None: what they may take where nothing is said."""
    if value is None:
        return Budget()
    if not isinstance(value, Budget):
        raise _unwanted(value, "snapshots", "a budget, like Budget(count=5, memory=2 << 30)")
    return value.check()


def _unwanted(value: object, place: str, wanted: str) -> Invalid:
    return Invalid(f"{place}: {reprlib.repr(value)} is not {wanted}")

"""What is given to a session and its methods: anything of another type is ``Invalid``, which says what is wanted."""

from __future__ import annotations

import keyword
import math
import numbers
import operator
import os
import reprlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.limits import FLOORS, Limits, parse_seconds
from kernel_runtime.domain.snapshot import Budget, Saving

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernel_runtime.domain.manifest import Manifest

_VARIABLE = "the name of a variable, like 'x'"


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


def code(value: object) -> str:
    """Source, of nothing but characters."""
    source = text(value, "run", "code, like 'print(1)'")
    try:
        source.encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"run: the code has half a character (a lone surrogate) at {error.start}") from None
    return source


def variable(value: object, place: str) -> str:
    """What a variable of the guest can be called."""
    name = text(value, place, _VARIABLE)
    if not name.isidentifier() or keyword.iskeyword(name):
        raise _unwanted(value, place, _VARIABLE)
    return name


def callback(value: Any, place: str) -> Any:
    """What is called later; None for nothing."""
    if value is not None and not callable(value):
        raise _unwanted(value, place, "a function")
    return value


def share(value: Any) -> float | None:
    """Cores' worth of CPU time; None: as much as the limit allows."""
    if value is None:
        return None
    least = FLOORS["cpus"]
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise _unwanted(value, "cpus", "a number of cores, like 0.5")
    if value < least:
        raise Invalid(f"cpus: {float(value):g} is below {least:g} of a core, the least a guest can live with")
    return float(value)


def seconds(value: Any, place: str) -> float | None:
    """A span of time, as a number or text like '30m'; None: none."""
    return None if value is None else parse_seconds(value, place)


def scopes(value: Iterable[str], place: str) -> list[str]:
    """A list of scopes; one text is none, though it can be iterated."""
    with suppress(TypeError):
        found = list(value)
        if not isinstance(value, str) and all(isinstance(scope, str) for scope in found):
            return found
    raise _unwanted(value, place, "a list of scopes, like ['net:api.example.org/GET']")


def path(value: Any, place: str) -> str:
    """A path as text."""
    with suppress(TypeError):
        found = os.fspath(value)
        if isinstance(found, str) and "\0" not in found:
            return found
    raise _unwanted(value, place, "a path, like './data'")


def directory(value: Any, place: str) -> str:
    """A directory that is there."""
    found = path(value, place)
    if not os.path.isdir(found):
        what = "is no directory" if os.path.lexists(found) else "does not exist"
        raise Invalid(
            f"{place}: {found} {what}; make it first, or give None for a guest that sees no directory"
        )
    return found


def manifest(value: Any) -> Manifest | str | None:
    """A manifest that was read, or the path of one; None: none."""
    if value is None or isinstance(value, str | os.PathLike):
        return None if value is None else path(value, "manifest")
    from kernel_runtime.domain.manifest import Manifest  # only where one was read

    return value if isinstance(value, Manifest) else path(value, "manifest")


def limits(value: object) -> Limits:
    """Amounts that were read already; None: those where nothing is said."""
    if value is None:
        return Limits()
    if not isinstance(value, Limits):
        raise _unwanted(
            value, "limits", "Limits(...); amounts as text are arguments of their own: memory='512M'"
        )
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


def saving(value: object) -> Saving | None:
    """When checkpoints are made without being asked for; None: never."""
    if value is None:
        return None
    if not isinstance(value, Saving):
        raise _unwanted(value, "saving", "a Saving, like Saving(every=600, retention=Retention(count=5))")
    return value.check()


def _unwanted(value: object, place: str, wanted: str) -> Invalid:
    return Invalid(f"{place}: {reprlib.repr(value)} is not {wanted}")

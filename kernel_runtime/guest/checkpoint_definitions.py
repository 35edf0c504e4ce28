"""What a notebook defines: classes and functions that no module has, kept by value, once.

Every other value refers to them by a token, so that they stay the same object for all, and that
their code is stored once. A function's globals are the namespace it is restored into.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import sys
import types
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Reduced = tuple[Any, ...]

CACHED = type(functools.lru_cache(lambda: None))
HEAP_TYPE = 1 << 9
#: Of dataclasses: one of each, which is told by identity.
SENTINELS = (type(dataclasses.MISSING), type(vars(dataclasses)["_HAS_DEFAULT_FACTORY"]))
_ATTRIBUTES = ("__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__", "__annotations__")


class Restoring:
    """What is being loaded: the namespace, definitions by token, and why these are not there.

    ``names``: the only variables of group 0 that are asked for; ``place``: the definition (by token) or
    variable of it that is being made; ``kept``: what a trial does not make anew, by its id.
    """

    namespace: ClassVar[dict[str, Any]] = {}
    names: ClassVar[list[str] | None] = None
    place: ClassVar[str] = ""
    definitions: ClassVar[dict[str, Any]] = {}
    kept: ClassVar[dict[int, Any]] = {}
    trouble: ClassVar[str] = "it is not in the checkpoint"


def restore_into(namespace: dict[str, Any], names: list[str] | None = None) -> None:
    """Begin anew."""
    Restoring.namespace, Restoring.names = namespace, names
    Restoring.definitions, Restoring.place = {}, ""


class Definitions:
    """The definitions that were met, each with a token that stays while its name does."""

    def __init__(self) -> None:
        self._tokens: dict[int, str] = {}
        self.objects: dict[str, Any] = {}

    def token(self, value: Any) -> str:
        found = self._tokens.get(id(value))
        if found is None:
            name = f"{value.__module__}.{value.__qualname__}"
            found, number = name, 1
            while found in self.objects:
                number += 1
                found = f"{name}#{number}"
            self._tokens[id(value)] = found
            self.objects[found] = value
        return found

    def tokens(self) -> dict[int, str]:
        """Tokens by the ids of what they stand for."""
        return dict(self._tokens)


def is_definition(value: Any) -> bool:
    """A class or function that unpickling could not import."""
    if isinstance(value, type):
        return bool(value.__flags__ & HEAP_TYPE) and _is_homeless(value) and not _importable(value)
    if isinstance(value, CACHED) and not isinstance(getattr(value, "__wrapped__", None), types.FunctionType):
        return False  # of a library written in C
    return isinstance(value, types.FunctionType | CACHED) and not _importable(value)


def _is_homeless(kind: type) -> bool:
    """Types of modules in C need not be there under their name; these are refused, not rebuilt."""
    return (
        kind.__module__ == "__main__" or _module(kind.__module__) is None or "<locals>" in kind.__qualname__
    )


def _importable(value: Any) -> bool:
    name = getattr(value, "__module__", None)
    found: Any = _module(name) if name != "__main__" else None
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _module(name: Any) -> types.ModuleType | None:
    """A module; a part of a package that is loaded when it is asked for (``numpy.rec``) is so now."""
    if not isinstance(name, str):
        return None
    package = name.partition(".")[0]
    if name not in sys.modules and package in sys.modules and package != name:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    return sys.modules.get(name)


def definition(token: str) -> Any:
    """In a stream: the definition of this name."""
    try:
        return Restoring.definitions[token]
    except KeyError:
        raise LookupError(f"{token} was not restored: {Restoring.trouble}") from None


class Rebuilt:
    """Stands in a stream for a variable with a recipe: unpickled, it is what ``rebuild`` makes."""

    def __init__(self, rebuild: Callable[[Any], Any], saved: Any) -> None:
        self._made = (rebuild, (saved,))

    def __reduce__(self) -> Reduced:
        return self._made


class Kept:
    """Stands for a value in a stream that is read in this process: it is the value itself."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Reduced:
        return reduce_kept(self.value)


def reduce_kept(value: Any) -> Reduced:
    Restoring.kept[id(value)] = value
    return _kept, (id(value),)


def _kept(identity: int) -> Any:
    return Restoring.kept[identity]


# -- functions ------------------------------------------------------------------------------


def reduce_function(function: types.FunctionType) -> Reduced:
    """A function of the notebook; two steps, for it may be among its own cells."""
    state = {name: getattr(function, name) for name in _ATTRIBUTES}
    made = (function.__code__, function.__name__, function.__closure__)
    return _function, made, (state, function.__dict__), None, None, fill_function


def _function(code: types.CodeType, name: str, closure: Any) -> types.FunctionType:
    return types.FunctionType(code, Restoring.namespace, name, None, closure)


def fill_function(function: types.FunctionType, state: Any) -> None:
    """With attributes, what is in its ``__dict__``, and (where they are not the namespace) globals."""
    attributes, own, *others = state
    for name, value in attributes.items():
        setattr(function, name, value)
    function.__dict__.update(own)
    if others:
        function.__globals__.update(others[0])
        function.__globals__["__builtins__"] = __builtins__


def reduce_cell(cell: types.CellType) -> Reduced:
    """A cell by identity: two functions that share one go on sharing it."""
    try:
        contents = (cell.cell_contents,)
    except ValueError:
        return types.CellType, ()
    return types.CellType, (), contents, None, None, fill_cell


def fill_cell(cell: types.CellType, contents: tuple[Any]) -> None:
    cell.cell_contents = contents[0]


def reduce_cached(value: Any) -> Reduced:
    """A function under ``lru_cache``; what it had cached is computed again."""
    made = (value.__wrapped__, value.cache_parameters())
    return _cached, made, (value.__dict__,), None, None, fill_cached


def _cached(
    function: Callable[..., Any], parameters: dict[str, Any], own: dict[str, Any] | None = None
) -> Any:
    value = functools.lru_cache(**parameters)(function)
    value.__dict__.update(own or {})
    return value


def fill_cached(value: Any, state: Any) -> None:
    value.__dict__.update(state[0])


def reduce_cached_property(value: functools.cached_property[Any]) -> Reduced:
    """Without its lock, which no pickle takes."""
    return _cached_property, (value.func, value.attrname, value.__doc__)


def _cached_property(function: Any, name: str, doc: str | None) -> functools.cached_property[Any]:
    made = functools.cached_property(function)
    made.attrname, made.__doc__ = name, doc
    return made


def reduce_sentinel(value: Any) -> str:
    return next(name for name, one in vars(dataclasses).items() if one is value)

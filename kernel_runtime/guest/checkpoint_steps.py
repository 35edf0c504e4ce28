"""How group 0 is written: first all definitions as shells, then what makes them work, then what they hold.

Unpickling a value calls its hooks: ``__setstate__``, ``__hash__``, what ``__reduce__`` names. These may use
any class or function of the notebook. So code is whole, and has its names, before any value is made; and
none of it runs on the way there (``__init_subclass__``, a metaclass): a shell has no code yet.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
from typing import TYPE_CHECKING, Any

from kernel_runtime.guest import checkpoint_definitions as definitions
from kernel_runtime.guest.checkpoint_definitions import Restoring

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from kernel_runtime.guest.checkpoint_definitions import Reduced

_CODE = (
    type, types.FunctionType, types.ModuleType, types.CodeType, types.CellType,
    types.MemberDescriptorType, definitions.CACHED, classmethod, staticmethod, property,
    functools.cached_property, *definitions.SENTINELS,
)  # fmt: skip
_ATOMS = {str, bytes, int, float, complex, bool, type(None), type(...), type(NotImplemented), range}
#: Values of a definition that are looked at to tell code from what may have hooks.
_MOST = 10_000
#: What the class sets on each member of an enum.
_OF_MEMBERS = ("_value_", "_name_", "__objclass__", "_sort_order_")


class Step:
    """In a stream: a call that is made when the stream has been read up to here."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._made = call, arguments

    def __reduce__(self) -> Reduced:
        return self._made


class Steps:
    """A list of steps, which come to be while it is pickled."""

    def __init__(self, steps: Iterator[Step]) -> None:
        self._steps = steps

    def __reduce__(self) -> Reduced:
        return list, (), None, self._steps


@dataclasses.dataclass(frozen=True, slots=True)
class _Fill:
    """What a shell is still without. ``place`` is the token of the definition that it belongs to."""

    place: str
    fill: Callable[[Any, Any], object]
    shell: Any
    state: Any

    def steps(self) -> Iterator[Step]:
        yield Step(begin, self.place)
        yield Step(self.fill, self.shell, self.state)


class Shells:
    """Makes shells of definitions for a pickler, and knows what they are to be filled with."""

    def __init__(self) -> None:
        self._place = ""
        self.early: Collection[str] = ()
        self._new: list[_Fill] = []
        self._values: list[_Fill] = []

    def of(self, value: Any, reduced: Reduced, place: str | None = None) -> Reduced:
        """The first half of how a definition, or a cell of the last one, is reduced."""
        self._place = self._place if place is None else place
        make, arguments, state, *_, fill = reduced
        if isinstance(value, type):
            arguments, state = _class(value, arguments, state)
        self._new.append(_Fill(self._place, fill, value, state))
        if isinstance(value, type) and issubclass(value, enum.Enum):
            self._new.append(_Fill(self._place, fill_members, value, _members(value)))
        return make, arguments

    def code(self) -> Iterator[Step]:
        """Fill those that are new with code. Pickle may look one step ahead of what it writes."""
        while True:
            if not self._new:
                yield Step(bool)
            if not self._new:
                return
            new = sorted(_taken(self._new), key=_is_metaclass)
            for one in new:
                if one.place in self.early:
                    yield from one.steps()
            for one in new:
                code, values = _split(one) if one.place not in self.early else (None, None)
                if code is not None:
                    yield from code.steps()
                if values is not None:
                    self._values.append(values)

    def values(self) -> Iterator[Step]:
        """Fill them with values, in the order in which they were met."""
        while self._values:
            yield from self._values.pop(0).steps()
            yield from self.code()


def _is_metaclass(one: _Fill) -> bool:
    """It comes last: it may forbid that attributes of its classes are set."""
    return isinstance(one.shell, type) and issubclass(one.shell, type)


def _taken(fills: list[_Fill]) -> list[_Fill]:
    taken = fills[:]
    fills.clear()
    return taken


def defined(
    shells: Shells,
    known: dict[str, Any],
    recipes: dict[Any, Any],
    variables: dict[str, Any],
    first: Collection[str] = (),
) -> dict[str, Any]:
    """What group 0 is a pickle of. ``known`` is by token. ``first``: variables that come before the values that
    definitions hold, and definitions (by token) whose own values come before any code."""
    made = Steps(_steps(shells, known, recipes, variables, first))
    return {"steps": made, "definitions": known, "recipes": recipes, "variables": variables}


def _steps(
    shells: Shells,
    known: dict[str, Any],
    recipes: dict[Any, Any],
    variables: dict[str, Any],
    first: Collection[str],
) -> Iterator[Step]:
    shells.early = first
    for token, value in known.items():
        yield Step(begin, token)
        yield Step(define, token, value)
    yield from shells.code()
    yield Step(len, recipes)
    yield from shells.code()
    names = [name for name, value in variables.items() if definitions.is_definition(value)]
    names += [name for name in first if name in variables]
    for name in names:
        yield from _bound(name, variables[name])
        yield from shells.code()
    yield from shells.values()
    for name in variables:
        if name not in names:
            yield from _bound(name, variables[name])
            yield from shells.code()
            yield from shells.values()


def _bound(name: str, value: Any) -> Iterator[Step]:
    yield Step(begin, name)
    yield Step(bind, name, value)


# -- steps, as they are unpickled -----------------------------------------------------------


def begin(place: str) -> None:
    """From here on, what fails is of this definition (by token) or variable."""
    Restoring.place = place


def define(token: str, value: Any) -> None:
    Restoring.definitions[token] = value


def bind(name: str, value: Any) -> None:
    if Restoring.names is None or name in Restoring.names:
        Restoring.namespace[name] = value


def fill_members(kind: Any, state: dict[str, dict[str, Any]]) -> None:
    for name, own in state.items():
        vars(kind.__members__[name]).update(own)


# -- what shells are made of, and filled with -------------------------------------------------


def _class(kind: type, arguments: Any, state: Any) -> tuple[Any, Any]:
    """A class's shell has its slots, or all members; it is never one that this process has already."""
    attributes, others = dict(state[0]), state[1]
    *made, last = arguments
    made[-1] = None  # by this number, cloudpickle would find the class itself
    if issubclass(kind, enum.Enum):
        made[3] = {name: member.value for name, member in kind.__members__.items()}
        attributes = {name: value for name, value in attributes.items() if name not in kind.__members__}
    elif isinstance(slots := attributes.get("__slots__"), str | tuple | list | dict) and not _is_row(kind):
        made[3] = {**made[3], "__slots__": slots}
        del attributes["__slots__"]
    return (*made, last), (attributes, others)


def _is_row(kind: type) -> bool:
    """A named tuple, whose maker gives it its slots."""
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _members(kind: type[enum.Enum]) -> dict[str, dict[str, Any]]:
    """What each member has beside its name and value: its ``__init__`` is not called again."""
    found = {}
    for name, member in kind.__members__.items():
        own = {key: value for key, value in vars(member).items() if key not in _OF_MEMBERS}
        if own:
            found[name] = own
    return found


def _split(one: _Fill) -> tuple[_Fill | None, _Fill | None]:
    """The code of it, and the values."""
    if not isinstance(one.shell, type) and one.fill is not definitions.fill_function:
        return (one, None) if _is_code(one.state) else (None, one)
    if one.fill is fill_members:
        return (one, None) if _is_code(one.state) else (None, one)
    code = tuple({name: value for name, value in part.items() if _is_code(value)} for part in one.state)
    values = tuple(
        {name: value for name, value in part.items() if name not in some}
        for part, some in zip(one.state, code, strict=True)
    )
    return (
        dataclasses.replace(one, state=code) if any(code) else None,
        dataclasses.replace(one, state=values) if any(values) else None,
    )


def _is_code(value: Any) -> bool:
    """Whether nothing in it has hooks that the notebook could have made."""
    todo, seen = [value], set()
    while todo:
        one = todo.pop()
        if type(one) in _ATOMS or isinstance(one, _CODE) or id(one) in seen:
            continue
        seen.add(id(one))
        held = _held(one)
        if held is None or len(seen) > _MOST:
            return False
        todo += held
    return True


def _held(value: Any) -> list[Any] | None:
    kind = type(value)
    if kind in (list, tuple, set, frozenset):
        return list(value)
    if kind is dict:
        return [*value, *value.values()]
    if kind is dataclasses.Field:
        return [value.default, value.default_factory]
    if kind is functools.partial:
        return [value.func, value.args, value.keywords]
    return [value.__self__] if kind in (types.MethodType, types.BuiltinMethodType) else None

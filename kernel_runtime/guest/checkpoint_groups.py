"""Which variables belong together: those that reach the same mutable value.

What cannot be changed (strings, types, dtypes, modules, functions) links nothing: a shared
dtype or an interned string is no reason to store two arrays as one. Functions and classes of the
notebook are group 0; what their closures and attributes share with a variable draws it in.
"""

from __future__ import annotations

import gc
import sys
import types
import weakref
from itertools import compress
from typing import TYPE_CHECKING, Any

from kernel_runtime.guest import checkpoint_definitions as definitions
from kernel_runtime.guest import checkpoint_memory as memory

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The owner of what the notebook's definitions reach; no variable is called so.
DEFINED = ""
_BATCH = 10_000
_LEAVES = (
    str, bytes, int, float, complex, bool, type(None), type(...), type(NotImplemented), range,
    types.ModuleType, types.BuiltinFunctionType, types.CodeType, types.WrapperDescriptorType,
    types.MethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType,
    weakref.ref, weakref.ProxyType,
)  # fmt: skip


class _Kinds(dict[type, bool]):
    """type → whether its values may hold or be something mutable."""

    def __missing__(self, kind: type) -> bool:
        self[kind] = found = not (issubclass(kind, _LEAVES) or _is_dtype(kind))
        return found


class Groups:
    """Variables, joined as the walk over what they hold finds things in common."""

    def __init__(self, namespace: dict[str, Any], known: definitions.Definitions) -> None:
        self._namespace = namespace
        self._known = known
        self._kinds = _Kinds()
        self._owner: dict[int, str] = {}
        self._leader = {name: name for name in (DEFINED, *namespace)}
        for name, value in namespace.items():
            self._walk(name, [value])
        self._walk_definitions()

    def lists(self) -> dict[str, list[str]]:
        """Groups by their first name; ``DEFINED`` has those that the definitions draw in."""
        found: dict[str, list[str]] = {DEFINED: []}
        leader = self._find(DEFINED)
        for name in self._namespace:
            first = self._find(name)
            found.setdefault(DEFINED if first == leader else first, []).append(name)
        return {min(names) if key else key: sorted(names) for key, names in found.items()}

    def _walk_definitions(self) -> None:
        walked = 0
        while walked < len(self._known.objects):
            values = list(self._known.objects.values())[walked:]
            walked += len(values)
            for value in values:
                self._walk(DEFINED, _held_by(value))

    def _walk(self, name: str, values: list[Any]) -> None:
        passing: set[int] = set()  # values that hold others but are no one's own: tuples and the like
        todo = self._interesting(values)
        while todo:
            batch, todo = todo[-_BATCH:], todo[:-_BATCH]
            new = [value for value in batch if self._is_new(name, value, passing)]
            todo += self._interesting(self._referents(new))

    def _interesting(self, values: Iterable[Any]) -> list[Any]:
        values = list(values)
        return list(compress(values, map(self._kinds.__getitem__, map(type, values))))

    def _is_new(self, name: str, value: Any, passing: set[int]) -> bool:
        """Whether to look into it; joins ``name`` with whoever has it already."""
        if isinstance(value, type | types.FunctionType | definitions.CACHED):
            if definitions.is_definition(value):
                self._known.token(value)
            return False
        if _is_value(type(value)):
            seen = id(value) in passing
            passing.add(id(value))
            return not seen
        owner = self._owner.setdefault(id(value), name)
        if owner is not name:
            self._join(owner, name)
        else:
            seen = id(value) in passing
            passing.add(id(value))
            return not seen
        return False

    def _referents(self, values: list[Any]) -> list[Any]:
        numpy = sys.modules.get("numpy")
        arrays = [v for v in values if isinstance(v, numpy.ndarray)] if numpy is not None else []
        found = gc.get_referents(*values)
        for array in arrays:
            found.append(memory.owner_of(array))
            if array.dtype.hasobject:
                found += memory.root_of(array).ravel(order="K").tolist()
        found += [view.obj for view in values if type(view) is memoryview]
        return found

    def _find(self, name: str) -> str:
        while self._leader[name] != name:
            self._leader[name] = name = self._leader[self._leader[name]]
        return name

    def _join(self, one: str, other: str) -> None:
        self._leader[self._find(other)] = self._find(one)


def _held_by(value: Any) -> list[Any]:
    """What a definition holds: not its globals, which are the namespace."""
    if isinstance(value, type):
        return [*vars(value).values(), *value.__bases__]
    if isinstance(value, definitions.CACHED):
        return [value.__wrapped__, value.__dict__]
    cells = list(value.__closure__ or ())
    return [*cells, value.__defaults__, value.__kwdefaults__, value.__dict__]


def _is_value(kind: type) -> bool:
    """Compared and hashed by content: what it is does not change, whoever has it."""
    return kind.__hash__ is not None and kind.__hash__ is not object.__hash__ and not _is_frame(kind)


def _is_frame(kind: type) -> bool:
    generic = getattr(sys.modules.get("pandas.core.generic"), "NDFrame", None)
    return generic is not None and issubclass(kind, generic)


def _is_dtype(kind: type) -> bool:
    numpy, extension = sys.modules.get("numpy"), sys.modules.get("pandas.api.extensions")
    kinds = [
        getattr(numpy, "dtype", None),
        getattr(numpy, "generic", None),
        getattr(extension, "ExtensionDtype", None),
    ]
    return issubclass(kind, tuple(found for found in kinds if found is not None))

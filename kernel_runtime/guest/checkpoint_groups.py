"""Which variables belong together: those that reach the same mutable value.

What cannot be changed (strings, types, dtypes, modules, functions) links nothing: a shared
dtype or an interned string is no reason to store two arrays as one. A builtin method that is bound
(``list.append``) links as what it is bound to. Functions and classes of the
notebook are group 0; what their closures and attributes share with a variable draws it in.
"""

from __future__ import annotations

import enum
import gc
import operator
import sys
import types
import weakref
from itertools import compress
from typing import TYPE_CHECKING, Any

from kernel_runtime.guest import checkpoint_definitions as definitions
from kernel_runtime.guest import checkpoint_memory as memory
from kernel_runtime.guest.checkpoint_plain import HELD_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

#: The owner of what the notebook's definitions reach; no variable is called so.
DEFINED = ""
_BATCH = 2_000
_ATOMS = (str, bytes, int, float, complex)
#: Packages whose values that are hashed by content cannot be changed.
_LIBRARIES = frozenset({"numpy", "pandas", "pyarrow", "scipy"}) | sys.stdlib_module_names
_LEAVES = (
    type(None), type(...), type(NotImplemented), range,
    types.ModuleType, types.CodeType, types.WrapperDescriptorType,
    types.MethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType,
    weakref.ref, weakref.ProxyType,
    # No pickle brings these back: what their frames hold is no reason to save it as one.
    types.FrameType, types.TracebackType, types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType,
)  # fmt: skip


class _Kinds(dict[type, bool]):
    """type → whether the walk has to do with its values in the way that ``rule`` decides."""

    def __init__(self, rule: Callable[[type], bool]) -> None:
        super().__init__()
        self._rule = rule

    def __missing__(self, kind: type) -> bool:
        self[kind] = found = self._rule(kind)
        return found


def _is_leaf(kind: type) -> bool:
    if issubclass(kind, _ATOMS):  # but where a class of somebody's may have given it attributes
        return not _is_heap(kind) or issubclass(kind, enum.Enum) or _is_dtype(kind)
    return issubclass(kind, _LEAVES) or (_is_dtype(kind) and not _is_array(kind))


def _is_heap(kind: type) -> bool:
    return bool(kind.__flags__ & definitions.HEAP_TYPE)


def _is_code(kind: type) -> bool:
    return issubclass(kind, type | types.FunctionType | definitions.CACHED)


def _is_own(kind: type) -> bool:
    """Whether its values are something of their own: they link whoever has them."""
    return not (_is_leaf(kind) or _is_code(kind) or _is_value(kind))


def _is_passing(kind: type) -> bool:
    """Whether its values, tuples for instance, only hold others, or are classes and functions."""
    return not _is_leaf(kind) and not _is_own(kind)


class Groups:
    """Variables, joined as the walk over what they hold finds things in common.

    ``closed``: collections that are believed to hold nothing which another variable reaches but through
    them. These are not looked into before ``open`` is called.
    """

    def __init__(
        self, namespace: dict[str, Any], known: definitions.Definitions, closed: Collection[str] = ()
    ) -> None:
        self._namespace = namespace
        self._known = known
        self._branches = _Kinds(lambda kind: not _is_leaf(kind))
        self._owns, self._passes = _Kinds(_is_own), _Kinds(_is_passing)
        self._codes, self._arrays = _Kinds(_is_code), _Kinds(_is_array)
        self._owner: dict[int, str] = {}
        self._leader = {name: name for name in (DEFINED, *namespace)}
        self._walked = 0
        for name in closed:
            self._own(name, [namespace[name]])
        for name, value in namespace.items():
            if name not in closed:
                self._walk(name, self._interesting([value]))

    def open(self, name: str) -> None:
        """Look into one that was closed, after all."""
        self._walk(name, [], self._interesting(gc.get_referents(self._namespace[name])))

    def lists(self) -> dict[str, list[str]]:
        """Groups by their first name; ``DEFINED`` has the definitions' names, and what these draw in."""
        self._walk_definitions()
        found: dict[str, list[str]] = {DEFINED: []}
        leader = self._find(DEFINED)
        for name, value in self._namespace.items():
            first = leader if definitions.is_definition(value) else self._find(name)
            found.setdefault(DEFINED if first == leader else first, []).append(name)
        return {min(names) if key else key: sorted(names) for key, names in found.items()}

    def _walk_definitions(self) -> None:
        while self._walked < len(self._known.objects):
            values = list(self._known.objects.values())[self._walked :]
            self._walked += len(values)
            for value in values:
                self._walk(DEFINED, self._interesting(_held_by(value)))

    def _walk(self, name: str, met: list[Any], found: list[Any] | None = None) -> None:
        """From values on that were ``met``, others may have them, and from those that one value holds."""
        passed: set[int] = set()
        todo = found or []
        del found
        while todo or met:
            batch = todo[-_BATCH:]
            del todo[-_BATCH:]
            new, others = self._held_once(batch)
            met += others
            new += self._own(name, list(compress(met, map(self._owns.__getitem__, map(type, met)))))
            shared = self._passed(list(compress(met, map(self._passes.__getitem__, map(type, met)))), passed)
            todo += self._interesting(gc.get_referents(*new))
            # Who holds the same tuple passes through it, too: what lies behind must be remembered.
            met = self._interesting([*gc.get_referents(*shared), *self._behind([*new, *shared])])

    def _held_once(self, values: list[Any]) -> tuple[list[Any], list[Any]]:
        """Those that nobody holds but the value where they were found: no other variable reaches them on
        another way, and nobody need remember them. And the others; definitions are among these."""
        once = list(map(HELD_ONCE.__ge__, map(sys.getrefcount, values)))
        if any(map(self._codes.__getitem__, set(map(type, values)))):
            once = [alone and not self._codes[type(value)] for alone, value in zip(once, values, strict=True)]
        elif all(once):
            return values, []
        return list(compress(values, once)), list(compress(values, map(operator.not_, once)))

    def _interesting(self, values: list[Any]) -> list[Any]:
        """Without leaves: most of what a state consists of."""
        if not any(map(self._branches.__getitem__, set(map(type, values)))):
            return []
        return list(compress(values, map(self._branches.__getitem__, map(type, values))))

    def _own(self, name: str, values: list[Any]) -> list[Any]:
        """Those that nobody has had; joins ``name`` with whoever has one of the others."""
        found = dict(zip(map(id, values), values, strict=True))
        for identity in found.keys() & self._owner.keys():
            del found[identity]
            if self._owner[identity] is not name:
                self._join(self._owner[identity], name)
        self._owner.update(dict.fromkeys(found, name))
        return list(found.values())

    def _passed(self, values: list[Any], passed: set[int]) -> list[Any]:
        """Those that this variable has not been seen to hold; definitions are noted."""
        new = []
        for value in values:
            if id(value) in passed:
                continue
            passed.add(id(value))
            if not self._codes[type(value)]:
                new.append(value)
            elif definitions.is_definition(value):
                self._known.token(value)
        return new

    def _behind(self, values: list[Any]) -> list[Any]:
        """What the collector does not know of: the memory of arrays, and what it holds."""
        if not any(map(self._arrays.__getitem__, set(map(type, values)))):
            return []
        return [held for value in values if self._arrays[type(value)] for held in _behind(value)]

    def _find(self, name: str) -> str:
        while self._leader[name] != name:
            self._leader[name] = name = self._leader[self._leader[name]]
        return name

    def _join(self, one: str, other: str) -> None:
        self._leader[self._find(other)] = self._find(one)


def _is_array(kind: type) -> bool:
    return issubclass(kind, (memoryview, *_of_numpy("ndarray", "void")))


def _of_numpy(*names: str) -> list[type]:
    numpy = sys.modules.get("numpy")
    return [kind for name in names if (kind := getattr(numpy, name, None)) is not None]


def _behind(value: Any) -> list[Any]:
    """What an array or a view keeps alive."""
    if isinstance(value, memoryview):
        return [value.obj]
    held = [memory.owner_of(value)]
    if value.dtype.hasobject:
        held += memory.root_of(value).ravel(order="K").tolist()
    return held


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
    hashed: Any = kind.__hash__
    if hashed is None or hashed is object.__hash__ or _is_frame(kind):
        return False
    return not _is_heap(kind) or _is_fixed(kind)


def _is_fixed(kind: type) -> bool:
    """Of classes: whoever writes a ``__hash__`` may change the value nevertheless."""
    if issubclass(kind, enum.Enum):
        return True
    if issubclass(kind, tuple | frozenset):
        return not kind.__dictoffset__
    return str(kind.__module__).partition(".")[0] in _LIBRARIES


def _is_frame(kind: type) -> bool:
    generic: Any = getattr(sys.modules.get("pandas.core.generic"), "NDFrame", None)
    return generic is not None and issubclass(kind, generic)


def _is_dtype(kind: type) -> bool:
    extension = getattr(sys.modules.get("pandas.api.extensions"), "ExtensionDtype", None)
    kinds = [*_of_numpy("dtype", "generic"), *([extension] if extension is not None else [])]
    return issubclass(kind, tuple(kinds))

"""What objects hold where no attribute shows it: those of types that come with Python or the usual libraries.

Read by what these types have for being copied, not by the notebook's own code.
"""

from __future__ import annotations

import copyreg
import functools
import gc
import re
import struct
import sys
import threading
import types
import warnings
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOTS = {*sys.stdlib_module_names, "numpy", "pandas", "scipy", "sklearn"}
_NUMBERS_AND_TEXTS = (int, float, complex, str, bytes, bytearray)
_HEAP_TYPE = 1 << 9
_MANAGED_DICT = 1 << 4
_POINTER = struct.calcsize("P")


def content_of(value: Any) -> list[Any] | None:
    """As values that can be compared; None where nothing of it can be read so."""
    kind: Any = type(value)
    read = _reader(kind)
    try:
        return None if read is None else read(value)
    except Exception:  # noqa: BLE001 - it cannot be copied: an open file, a socket
        return None


@functools.lru_cache(1024)
def _reader(kind: Any) -> Callable[[Any], list[Any] | None] | None:
    kinds = [each for each in kind.__mro__ if _is_own(each)]
    if not kinds:
        return None
    if kinds[0].__module__.startswith("numpy.random"):
        return _random_numbers
    special = next((_SPECIAL[each] for each in kinds if each in _SPECIAL), None)
    return special or functools.partial(_reduced, kind=kinds[0])


@functools.lru_cache(1024)
def has_hidden_state(kind: Any) -> bool:
    """Whether instances hold more than their attributes: the rule by which ``object`` refuses to be pickled."""
    size = object.__basicsize__
    if kind.__dictoffset__ and not kind.__flags__ & _MANAGED_DICT:
        size += _POINTER
    if kind.__weakrefoffset__ > 0:
        size += _POINTER
    size += _POINTER * len(all_slots(kind))
    return bool(kind.__itemsize__) or kind.__basicsize__ > size


@functools.lru_cache(1024)
def all_slots(kind: Any) -> list[str]:
    """Those of its bases, too."""
    return [name for base in kind.__mro__ for name in slots_of(base)]


def slots_of(kind: type) -> list[str]:
    """Names of the slots that this class itself adds."""
    slots = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    found = [name for name in names if isinstance(name, str) and name not in ("__dict__", "__weakref__")]
    return [_mangled(name, kind.__name__) for name in found]


def _mangled(name: str, within: str) -> str:
    is_private = name.startswith("__") and not name.endswith("__")
    return f"_{within.lstrip('_')}{name}" if is_private else name


def _is_own(kind: type) -> bool:
    """Whether its code is none of the notebook's. An extension's types may say that they are builtins."""
    root = str(kind.__module__).partition(".")[0]
    if kind is object or root not in _ROOTS:
        return False
    return root != "builtins" or not kind.__flags__ & _HEAP_TYPE


def _reduced(value: Any, kind: type) -> list[Any] | None:
    """What pickling would keep, without the classes: these are compared by themselves."""
    if isinstance(value, _NUMBERS_AND_TEXTS):
        return [next(base for base in _NUMBERS_AND_TEXTS if isinstance(value, base)).__repr__(value)]
    if kind.__module__ == "_io" and value.closed:
        return ["closed"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # iterators of itertools say that this way ends with Python 3.14
        found = _reduce(value, kind)
    if found is None or isinstance(found, str):
        return None if found is None else [found]
    made, arguments, *rest = found
    state, *items = (*rest, None, None, None)[:3]
    held = [state, *(list(part) for part in items if part is not None)]
    return [_named(part) for part in (made, *arguments, *held) if part is not None]


def _reduce(value: Any, kind: Any) -> Any:
    if kind.__reduce_ex__ is not object.__reduce_ex__:
        return kind.__reduce_ex__(value, 4)
    if kind.__reduce__ is not object.__reduce__:
        return kind.__reduce__(value)
    if kind.__getstate__ is not object.__getstate__:
        return kind, (), kind.__getstate__(value)
    registered = copyreg.dispatch_table.get(kind)
    return None if registered is None else registered(value)


def _named(part: Any) -> Any:
    is_code = callable(part) and hasattr(part, "__qualname__")
    is_own = not is_code or isinstance(part, (types.FunctionType, types.MethodType))
    return part if is_own else f"{part.__module__}.{part.__qualname__}"


def _generator(frame: str) -> Callable[[Any], list[Any]]:
    """Where it has come to, its variables, and the iterators of its loops."""

    def read(value: Any) -> list[Any]:
        if (at := getattr(value, frame)) is None:
            return ["ended"]
        names = at.f_locals
        others = (each for each in gc.get_referents(value) if each is not names)
        held = [each for each in others if not isinstance(each, types.FrameType)]
        return [{"line": at.f_lineno, **names}, at.f_lasti, held]

    return read


def _random_numbers(value: Any) -> list[Any]:
    """What comes next, and which generators come from it next."""
    if hasattr(value, "get_state"):
        return [value.get_state(legacy=False)]
    bits = getattr(value, "bit_generator", value)
    return [bits.state, getattr(getattr(bits, "seed_seq", None), "state", None)]


def content_of_cell(cell: types.CellType) -> object:
    """What a closure holds under a name; None while that is nothing."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _view(value: Any) -> list[Any]:
    return list(value)


_SPECIAL: dict[type, Callable[[Any], list[Any]]] = {
    types.GeneratorType: _generator("gi_frame"),
    types.CoroutineType: _generator("cr_frame"),
    types.AsyncGeneratorType: _generator("ag_frame"),
    types.MethodType: lambda value: [value.__func__, value.__self__],
    types.MappingProxyType: lambda value: [value.copy()],
    type({}.keys()): _view,
    type({}.values()): _view,
    type({}.items()): _view,
    types.CellType: lambda value: [content_of_cell(value)],
    property: lambda value: [value.fget, value.fset, value.fdel],
    staticmethod: lambda value: [value.__func__],
    classmethod: lambda value: [value.__func__],
    re.Match: lambda value: [value.re, value.string, value.regs],
    weakref.ref: lambda value: [value()],
    type(threading.Lock()): lambda value: [value.locked()],
    type(threading.RLock()): lambda _: [],
}

"""Values that stand for others: views of a dict, and what is of this process or of values that live in it.

A view is saved with the dict that it shows. What nothing could make whole again is refused.
"""

from __future__ import annotations

import gc
import os
import tempfile
import weakref
from collections import OrderedDict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kernel_runtime.guest.checkpoint_memory import Unsaveable

if TYPE_CHECKING:
    from collections.abc import Callable

    Reducer = Callable[[Any], Any]


def _reduce_live(value: Any) -> Any:
    """What names values that live, and is of no use without: an empty set of these can come back."""
    if isinstance(value, weakref.WeakSet):
        if len(value):
            raise Unsaveable("a WeakSet, a weakref to each value in it; keep a set, or make it again")
    elif value.alive:
        raise Unsaveable("a weakref.finalize: what it waits for ends with this process; make it again")
    return NotImplemented


def _refuse_directory(value: Any) -> Any:
    raise Unsaveable(
        "a TemporaryDirectory, which is removed with this process; keep files in the workspace instead"
    )


def _reduce_environment(value: Any) -> Any:
    """That of the process it is restored into, where it is that of this one."""
    name = next((name for name in ("environ", "environb") if getattr(os, name) is value), None)
    return name or NotImplemented


def _reduce_keys(view: Any) -> Any:
    """A view of a dict: of what the dict itself comes back as."""
    (held,) = gc.get_referents(view)
    return _keys, (held, *_VIEWS[type(view)])


def _keys(held: Any, kind: type, name: str) -> Any:
    return getattr(kind, name)(held)


def _reduce_proxy(proxy: MappingProxyType[Any, Any]) -> Any:
    (held,) = gc.get_referents(proxy)
    if type(held) is dict and "__module__" in held and "__doc__" in held:
        raise Unsaveable("the attributes of a class, vars(C); keep the class")
    return MappingProxyType, (held,)


_KINDS: tuple[dict[Any, Any], ...] = ({}, OrderedDict())
#: Types of views → whose method makes one, and its name.
_VIEWS = {
    type(getattr(of, name)()): (type(of), name) for of in _KINDS for name in ("keys", "values", "items")
}
#: How to save values of these types and their subclasses.
BY_BASE: tuple[tuple[type, Reducer], ...] = (
    (weakref.WeakSet, _reduce_live),
    (weakref.finalize, _reduce_live),
    (tempfile.TemporaryDirectory, _refuse_directory),
    (type(os.environ), _reduce_environment),
)
#: How to save values of exactly these types.
BY_TYPE: dict[type, Reducer] = {**dict.fromkeys(_VIEWS, _reduce_keys), MappingProxyType: _reduce_proxy}

"""The pickler of checkpoints: what is shared stays shared, and what would come back wrong is refused."""

from __future__ import annotations

import array
import dataclasses
import functools
import importlib
import importlib.metadata
import io
import sys
import types
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import cloudpickle

from kernel_runtime.guest import checkpoint_definitions as definitions
from kernel_runtime.guest import checkpoint_memory as memory
from kernel_runtime.guest import checkpoint_references as references
from kernel_runtime.guest.checkpoint_memory import Unsaveable
from kernel_runtime.guest.checkpoint_steps import Shells
from kernel_runtime.guest.checkpoint_verify import DRAWING
from kernel_runtime.sdk.checkpoint import Recipe, recipes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pickle import PickleBuffer

    Reducer = Callable[[Any], Any]

PROTOCOL = 5
#: Packages whose types keep their promise when they are pickled; others are tried out.
_TRUSTED = (
    frozenset({"kernel_runtime", "numpy", "pandas", "pyarrow", "scipy"}) | DRAWING | sys.stdlib_module_names
)
_OURS = ("__main__", "kernel_runtime")
#: Modules that each process has without an import.
_NOT_IMPORTED = ("__main__", "__mp_main__")
_HOOKS = ("__getstate__", "__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__", "__new__")


class Pickler(cloudpickle.Pickler):  # type: ignore[misc] # it is not typed
    """Pickles one group. ``packages``, ``doubtful``, ``refers`` and ``rebuilds`` tell afterwards what it met:
    the types' packages, types whose hooks had better be tried out, whether it refers to definitions, and
    whether a registered function is to make something of it.

    ``defining``: it writes the definitions themselves. ``trial``: it is unpickled here, where the registered
    functions are not called (they open what is outside): what they would make stands for itself.
    """

    def __init__(
        self,
        file: Any,
        namespace: dict[str, Any],
        known: definitions.Definitions,
        on_buffer: Callable[[PickleBuffer], object] | None = None,
        *,
        defining: bool = False,
        refused: Mapping[str, str] = MappingProxyType({}),
        trial: bool = False,
    ) -> None:
        super().__init__(file, protocol=PROTOCOL, buffer_callback=on_buffer)
        self._namespace = namespace
        self._definitions = known
        self.shells = Shells() if defining else None
        self._trial = trial
        self._refused = refused
        self._reducers: dict[type, Reducer] = {}
        self._memory = memory.reducers()
        self.packages: set[str] = set()
        self.doubtful: set[type] = set()
        self.refers = False
        self.rebuilds = False

    def reducer_override(self, obj: Any) -> Any:
        """Called for every value that is not of a builtin type."""
        kind = type(obj)
        reducer = self._reducers.get(kind)
        if reducer is None:
            reducer = self._reducers[kind] = self._choose(kind)
        return reducer(obj)

    def _choose(self, kind: type) -> Reducer:
        recipe = _recipe_of(kind)
        if recipe is not None:
            self.rebuilds = True
            return definitions.reduce_kept if self._trial else lambda value: _rebuilt(recipe, value)
        if issubclass(kind, types.ModuleType):
            return self._module
        if issubclass(kind, type) or kind in (types.FunctionType, definitions.CACHED):
            return self._named
        found = _BY_TYPE.get(kind) or next(
            (how for base, how in self._memory if issubclass(kind, base)), None
        )
        self._note(kind)
        if kind is types.CellType and self.shells is not None:
            return self._cell
        if found is not None:
            return found
        for base, how in references.BY_BASE:
            if issubclass(kind, base):
                return how
        if issubclass(kind, BaseException):
            return _reduce_exception
        if issubclass(kind, io.IOBase) and kind not in (io.StringIO, io.BytesIO):
            return _refuse_file
        return _as_usual

    def _note(self, kind: type) -> None:
        package = self._note_package(kind)
        if package not in _TRUSTED and not package.startswith("_cython_") and not _is_plain(kind):
            self.doubtful.add(kind)

    def _named(self, value: Any) -> Any:
        """A class or function: by its name, by token, or (in group 0) by value."""
        if not definitions.is_definition(value):
            _refuse_made(str(getattr(value, "__module__", "")))
            self._note_package(value)
            return super().reducer_override(value)
        token = self._definitions.token(value)
        if token in self._refused:
            raise Unsaveable(f"it needs {token}, which cannot be saved: {self._refused[token]}")
        if self.shells is None:
            self.refers = True
            return definitions.definition, (token,)
        reduced = self._by_value(value)
        return self.shells.of(value, reduced, token) if isinstance(reduced, tuple) else reduced

    def _by_value(self, value: Any) -> Any:
        if isinstance(value, definitions.CACHED):
            return definitions.reduce_cached(value)
        if isinstance(value, types.FunctionType) and value.__globals__ is self._namespace:
            return definitions.reduce_function(value)
        reduced = super().reducer_override(value)
        return _with_cells(value, reduced) if isinstance(value, types.FunctionType) else reduced

    def _cell(self, cell: types.CellType) -> Any:
        reduced = definitions.reduce_cell(cell)
        return self.shells.of(cell, reduced) if self.shells is not None and len(reduced) > 2 else reduced

    def _note_package(self, value: Any) -> str:
        """The package that a class or function is of; its version matters for what is saved."""
        package = (getattr(value, "__module__", None) or "").partition(".")[0]
        if package and package not in _OURS and package not in sys.stdlib_module_names:
            self.packages.add(package)
        return package

    def _module(self, value: types.ModuleType) -> Any:
        """By name, as it was imported; one that was made by hand, by value."""
        if sys.modules.get(value.__name__) is not value:
            return super().reducer_override(value)
        _refuse_made(value.__name__)
        return importlib.import_module, (value.__name__,)


def _refuse_made(name: str) -> None:
    """A module that is in ``sys.modules``, but was not imported: nothing could import it where it is restored."""
    name = name.partition(".")[0]
    module = sys.modules.get(name)
    if module is None or name in _NOT_IMPORTED or name.startswith("_cython_"):
        return
    if getattr(module, "__spec__", None) is None and getattr(module, "__file__", None) is None:
        raise Unsaveable(
            f"the module {name} was made by hand, and cannot be imported; out of sys.modules, it is kept by value"
        )


def _as_usual(value: Any) -> Any:
    return NotImplemented


def _recipe_of(kind: type) -> Recipe | None:
    return next((recipes[base] for base in kind.__mro__ if base in recipes), None)


def _with_cells(function: types.FunctionType, reduced: Any) -> Any:
    """A function with other globals; its cells are filled by themselves."""
    make, arguments, (own, state), *_ = reduced
    attributes = dict(state)
    modules = {"": attributes.pop("_cloudpickle_submodules")}  # they are imported
    others = attributes.pop("__globals__")
    del attributes["__closure__"]
    arguments = (*arguments[:-1], function.__closure__)
    return make, arguments, (attributes, own, others, modules), None, None, definitions.fill_function


def _rebuilt(recipe: Recipe, value: Any) -> Any:
    return recipe.rebuild, (recipe.save(value),)


def _is_plain(kind: type) -> bool:
    """Whether pickle copies attributes and nothing else: there is no hook that could go wrong."""
    hooks = all(getattr(kind, name, None) is getattr(object, name, None) for name in _HOOKS)
    return hooks and not hasattr(kind, "__setstate__") and _is_python(kind) and not _is_hashed(kind)


def _is_hashed(kind: type) -> bool:
    """Whether a key of this type calls a function that somebody wrote (dataclasses make their own)."""
    code = getattr(kind.__hash__, "__code__", None)
    return code is not None and not (dataclasses.is_dataclass(kind) and code.co_filename == "<string>")


def _is_python(kind: type) -> bool:
    return all(base is object or base.__flags__ & definitions.HEAP_TYPE for base in kind.__mro__)


# -- values that need care ------------------------------------------------------------------


def _reduce_exception(error: BaseException) -> Any:
    if error.__traceback__ is not None:
        raise Unsaveable(
            "an exception with a traceback, whose frames cannot be saved; keep error.with_traceback(None)"
        )
    reduced = error.__reduce_ex__(PROTOCOL)
    if isinstance(reduced, str):
        return reduced
    said = (error.__cause__, error.__context__, error.__suppress_context__)
    return _exception, (*reduced[:2], said), *reduced[2:]


def _exception(make: Any, arguments: Any, said: Any) -> BaseException:
    error: BaseException = make(*arguments)
    error.__cause__, error.__context__, error.__suppress_context__ = said
    return error


def _refuse_file(value: Any) -> Any:
    raise Unsaveable("an open file; open it again, or register how to")


def _reduce_view(view: memoryview) -> Any:
    base = view.obj
    if (
        not isinstance(base, bytes | bytearray | array.array)
        or view.nbytes != memoryview(base).nbytes
        or not view.c_contiguous
    ):
        raise Unsaveable("a memoryview of a part, or of memory that is not bytes, bytearray or array")
    return _view, (base, view.format, list(view.shape or ()), view.readonly)


def _view(base: Any, form: str, shape: list[int], readonly: bool) -> memoryview:
    view: memoryview = memoryview(base).cast("B").cast(form, shape)  # type: ignore[call-overload] # by the host's name of a form
    return view.toreadonly() if readonly else view


_BY_TYPE: dict[type, Reducer] = {
    **references.BY_TYPE,
    types.CellType: definitions.reduce_cell,
    memoryview: _reduce_view,
    functools.cached_property: definitions.reduce_cached_property,
    **dict.fromkeys(definitions.SENTINELS, definitions.reduce_sentinel),
}


# -- packages -------------------------------------------------------------------------------


def version_of(package: str) -> str | None:
    """A package's version here; None if it is not here, or says none."""
    stated = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(stated, str):
        return stated[:128]
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

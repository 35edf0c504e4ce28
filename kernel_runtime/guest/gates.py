"""Gates: a function of the notebook stops at its next call, in a frozen copy, while the live one goes on.

A gate is compiled into the one function: its code is swapped for the same with one call more at its
beginning. Nothing is traced, and every other function costs what it cost before.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
import threading
import types
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import Conflict, Invalid, KernelRuntimeError, NotFound
from kernel_runtime.domain.variables import MAX_NAME, MAX_VARIABLES
from kernel_runtime.guest.gate_code import gated_code
from kernel_runtime.guest.texts import error_text, short, short_text

if TYPE_CHECKING:
    from collections.abc import Callable

_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_FRAMES = 30
#: Names of frames that belong to IPython and this package, above the notebook's own.
_CELL = "<module>"


class StoppedAtGate(BaseException):
    """The cell ends here, as the gate was told to wait: its copy goes on when it is resumed. No ``Exception``: the
    notebook's code must not take it for an error of its own, and go on."""

    def _render_traceback_(self) -> list[str]:  # IPython's protocol for errors that draw themselves
        return [f"StoppedAtGate: {self}"]


class Gate:
    """One gate: in which function, under which condition, whether the live one waits."""

    def __init__(self, function: types.FunctionType, name: str, condition: str, wait: bool) -> None:
        self.function = function
        self.name = name
        self.condition = condition
        self.wait = wait
        self.has_raised = False
        self.original = self.gated = function.__code__

    def restore(self) -> None:
        if self.function.__code__ is self.gated:  # a reload may have given it other code
            self.function.__code__ = self.original


class _Call:
    """What a gated code calls. Pickled by the notebook (joblib, cloudpickle) it is one that does nothing: other processes
    go through the gate."""

    def __init__(self, told: Callable[[Gate], None], gate: Gate) -> None:
        self._told = told
        self._gate = gate

    def __call__(self) -> None:
        self._told(self._gate)

    def __reduce__(self) -> Any:
        return functools.partial, (bool,)


class Gates:
    """The gates that are set. ``freeze`` makes the copy: it returns None in the line that goes on (or a
    text, why there is no copy), and what is to be changed in the copy that was resumed."""

    def __init__(
        self, freeze: Callable[[wire.Gated], str | wire.Thaw | None], parent: Callable[[], str]
    ) -> None:
        self._set: dict[str, Gate] = {}
        self._freeze = freeze
        self._parent = parent
        self._numbers = itertools.count(1)

    def names(self) -> list[str]:
        return sorted(self._set)

    def listing(self, namespace: dict[str, Any]) -> list[str]:
        """For people: also whether the name stands for another function by now."""
        return [
            name
            if _stands_for(name, namespace) is self._set[name].function
            else f"{name} (as it was defined before)"
            for name in self.names()
        ]

    def set(self, name: str, namespace: dict[str, Any], condition: str = "", *, wait: bool = False) -> Gate:
        """Compile a gate into the function ``name``; ``Invalid`` says why it cannot be."""
        function = find_function(name, namespace)
        for known in list(self._set.values()):
            if known.name == name or known.function is function:  # also under another name
                self.off(known.name)
        gate = Gate(function, name, condition, wait)
        gate.gated = function.__code__ = gated_code(
            function, _Call(self._reached, gate), condition, _Call(self._raised, gate)
        )
        self._set[name] = gate
        return gate

    def off(self, name: str) -> None:
        """Give a function its own code back."""
        if name not in self._set:
            known = ", ".join(self.names()) or "none"
            raise NotFound(f"%gate off: there is no gate in {name!r}; there are gates in: {known}")
        self._set.pop(name).restore()

    def lift(self) -> None:
        """Before the state is read or saved, in the process of its own that does it: gates are no part of it."""
        for gate in self._set.values():
            gate.restore()

    def _reached(self, gate: Gate) -> None:
        """Called at the beginning of the function."""
        frame = sys._getframe(2)
        if threading.current_thread() is not threading.main_thread() or self._set.get(gate.name) is not gate:
            return  # a generator may have begun before the gate went off
        self.off(gate.name)
        here.frame = frame
        order = wire.Gated(
            parent=self._parent(),
            id=f"gate-{next(self._numbers)}",
            function=gate.name[:MAX_NAME],
            line=frame.f_lineno,
            wait=gate.wait,
        )
        told = self._freeze(order)
        here.frame = None
        if isinstance(told, str):
            print(f"gate in {gate.name}: {told}", file=sys.stderr)
        elif isinstance(told, wire.Thaw):
            change(frame, told.edits)
        elif gate.wait:
            raise StoppedAtGate(
                f"stopped at the gate in {gate.name}; %gates shows it, %gate resume goes on "
                "(for a guest of %%sandbox: %sandbox gates, %sandbox gate resume)"
            )

    def _raised(self, gate: Gate) -> None:
        """Called where the condition raised: such a call does not stop, and the cell goes on. Told once."""
        error = sys.exc_info()[1]
        if isinstance(error, RecursionError):
            self._end_recursion(gate, error)
        if not gate.has_raised:
            gate.has_raised = True
            then = (
                "such calls do not stop (said once)"
                if self._set.get(gate.name) is gate
                else "the gate is off"
            )
            what = f"its condition {gate.condition} raised {type(error).__name__}: {error_text(error)}"
            print(f"gate in {gate.name}: {what}; {then}", file=sys.stderr)

    def _end_recursion(self, gate: Gate, error: RecursionError) -> NoReturn:
        """It calls the function itself: each call that went on would ask it again. There is little room left to do anything."""
        gate.function.__code__ = gate.original
        self._set.pop(gate.name, None)
        if not gate.has_raised:
            gate.has_raised = True
            error.add_note(
                f"gate in {gate.name}: its condition {gate.condition} calls it again; the gate is off"
            )
        raise error


class _Here:
    """The frame that a copy was made in."""

    frame: types.FrameType | None = None


here = _Here()


def _stands_for(name: str, namespace: dict[str, Any]) -> types.FunctionType | None:
    try:
        return find_function(name, namespace)
    except KernelRuntimeError:
        return None


def find_function(name: str, namespace: dict[str, Any]) -> types.FunctionType:
    """``f``, ``Class.method`` or ``module.f``: a function written in Python, not a coroutine."""
    head, *rest = name.split(".")
    if head not in namespace:
        raise NotFound(f"%gate: there is no function {name!r} in the notebook; run the cell that defines it")
    found = namespace[head]
    for part in rest:
        found = (
            inspect.getattr_static(found, _held_as(part, found), None)
            if isinstance(found, type)
            else getattr(found, part, None)
        )
    found = inspect.unwrap(getattr(found, "__func__", found)) if found is not None else None
    if isinstance(found, functools.partial):
        found = found.func
    if not isinstance(found, types.FunctionType):
        raise Invalid(f"%gate: {name} is no function written in Python ({type(found).__name__})")
    if found.__code__.co_flags & _ASYNC:
        raise Invalid(
            f"%gate: {name} is a coroutine function: a copy made inside one has no running loop. "
            "Put the gate into a plain function that it calls"
        )
    return found


def _held_as(name: str, owner: type) -> str:
    """What is written ``__name`` in a class."""
    is_private = name.startswith("__") and not name.endswith("__")
    return f"_{owner.__name__.lstrip('_')}{name}" if is_private else name


# -- in the copy ----------------------------------------------------------------------------------------


def read_stack(body: bytes) -> list[wire.Level]:
    """The stack at the gate, innermost first, down to the cell; with the edits applied."""
    frame = _frame()
    change(frame, msgspec.json.decode(body, type=dict[str, str]))
    levels: list[wire.Level] = []
    level: types.FrameType | None = frame
    while level is not None and len(levels) < _FRAMES:
        code = level.f_code
        names = {} if code.co_name == _CELL else dict(level.f_locals)
        shown = {name[:MAX_NAME]: short(names[name]) for name in list(names)[: MAX_VARIABLES // _FRAMES]}
        place = f"{code.co_name}, line {level.f_lineno}"
        levels.append(wire.Level(place=place[:MAX_NAME], names=shown))
        if code.co_name == _CELL:
            break
        level = level.f_back
    return levels


def read_value(body: bytes) -> list[str]:
    """The text of an expression at the gate; or ``error``, and what it raised."""
    edits, expression = msgspec.json.decode(body, type=tuple[dict[str, str], str])
    frame = _frame()
    try:
        change(frame, edits)
        return ["", short(_evaluate(frame, expression))]
    except Exception as error:  # noqa: BLE001 - the notebook's own expression
        return [short_text(type(error).__name__) or "error", error_text(error)]


def change(frame: types.FrameType, edits: dict[str, str]) -> None:
    """Set local variables of a frame to the values of expressions."""
    for name, expression in edits.items():
        value = _evaluate(frame, expression)
        if name not in (*frame.f_code.co_varnames, *frame.f_code.co_cellvars, *frame.f_code.co_freevars):
            raise NameError(f"the function has no local variable {name!r}")
        if sys.version_info >= (3, 13):
            frame.f_locals[name] = value
        else:
            from kernel_runtime.guest import native

            native.set_local(frame, name, value)


def _evaluate(frame: types.FrameType, expression: str) -> Any:
    return eval(expression, frame.f_globals, dict(frame.f_locals))  # noqa: S307 - the guest's own


def _frame() -> types.FrameType:
    if here.frame is None:
        raise Conflict("this snapshot was not made at a gate")
    return here.frame

"""A handler of this app, called by another app: arguments and answer held to the types that it is written with.

What the caller sent does not fit: its fault, and the handler is not run. What the handler raises or answers is the
app's. The host believes neither.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import linecache
import os
import sys
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import msgspec

from kernel_runtime.domain import packed
from kernel_runtime.domain.errors import Invalid, KernelRuntimeError
from kernel_runtime.domain.exchange import ASKED, MAX_REPLY, REPLY, Asked, Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    Translate = Callable[[str, str], CodeType]

#: The magic by which a guest of level strict runs a handler, in its own language.
MAGIC = "kernel_runtime_call"
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Unfit(KernelRuntimeError):
    """``fault``: whose it is, the ``caller``'s or the ``app``'s."""

    def __init__(self, fault: Literal["caller", "app"], text: str) -> None:
        super().__init__(text)
        self.fault = fault


def serve(names: dict[str, Any], translate: Translate | None = None) -> None:
    """Run what is asked in ``names``, and leave the reply there. What the handler raises goes on: a limit may be
    behind it, and its traceback is the app's. ``translate``: see ``script.run``."""
    __tracebackhide__ = True
    try:
        asked = msgspec.msgpack.decode(names.pop(ASKED), type=Asked)
        value = _answer(_function(asked, names, translate), asked.arguments)
        names[REPLY] = packed.pack(Reply(value=value))
    except Unfit as error:
        names[REPLY] = packed.pack(Reply.failed(error.fault, str(error)))
    except BaseException as error:
        names[REPLY] = packed.pack(Reply.failed("app", f"{type(error).__name__}: {error}"))
        raise


def _function(asked: Asked, names: dict[str, Any], translate: Translate | None) -> Callable[..., Any]:
    """What the entry point names."""
    if translate is not None:
        names.update(__name__="__main__", __file__=asked.path)
        lines = asked.source.splitlines(True)
        linecache.cache[asked.path] = (len(asked.source), None, lines, asked.path)  # it sees no file
        exec(translate(asked.source, asked.path), names)  # noqa: S102 - the guest's own code, in the guest
        found: Any = names.get(asked.function)
    else:
        found = getattr(_module(asked), asked.function, None)
    if not callable(found):
        raise Unfit("app", f"{asked.module} has no function {asked.function!r}")
    function: Callable[..., Any] = found
    return function


def _module(asked: Asked) -> Any:
    """The app's own module; never one of Python's that is called the same."""
    sys.path.insert(0, asked.directory)
    importlib.invalidate_caches()
    module = importlib.import_module(asked.module)
    if os.path.realpath(getattr(module, "__file__", None) or "") != os.path.realpath(asked.path):
        raise Unfit("app", f"its module {asked.module!r} is called like another one: give it another name")
    return module


def _answer(function: Callable[..., Any], data: bytes) -> bytes:
    """Call it with the arguments, converted; its answer, packed."""
    __tracebackhide__ = True
    hints = _hints(function)
    given = _given(function, msgspec.msgpack.decode(data, type=dict[str, msgspec.Raw]), hints)
    value = function(*given.args, **given.kwargs)
    if inspect.isawaitable(value):
        value = _awaited(value)
    try:
        answer = packed.pack(value, MAX_REPLY)
    except Invalid as error:
        raise Unfit("app", f"its answer cannot be passed: {error}") from None
    if "return" in hints:
        _read(answer, hints["return"], "app", "its answer")
    return answer


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError, SyntaxError, AttributeError) as error:
        raise Unfit("app", f"its type hints cannot be read: {error}") from None


def _given(
    function: Callable[..., Any], arguments: dict[str, msgspec.Raw], hints: dict[str, Any]
) -> inspect.BoundArguments:
    """The arguments by name, each as the type that the function says."""
    signature = inspect.signature(function)
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    named = [name for name, kind in kinds.items() if kind in _NAMED]
    rest = next((name for name, kind in kinds.items() if kind is inspect.Parameter.VAR_KEYWORD), None)
    values = {}
    for name, raw in arguments.items():
        known = name if name in named else rest
        if known is None:
            from kernel_runtime.domain.places import advice  # difflib: not for each call

            raise Unfit("caller", f"it takes no argument {name!r}; {advice(name, named)}")
        values[name] = _read(raw, hints.get(known, Any), "caller", f"the argument {name!r}")
    try:
        return signature.bind(**values)
    except TypeError as error:
        raise Unfit("caller", f"{error}; it takes {', '.join(named)}") from None


def _read(data: bytes | msgspec.Raw, hint: Any, fault: Literal["caller", "app"], what: str) -> Any:
    """Packed data as the type of a hint."""
    try:
        return msgspec.msgpack.decode(data, type=hint)
    except msgspec.ValidationError as error:
        if _is_plain(hint):
            raise Unfit(fault, f"{what}: {error}") from None
    except TypeError:
        pass
    raise Unfit("app", f"{what} has a type hint that no plain data fits: {hint}")


def _is_plain(hint: Any) -> bool:
    """Whether plain data can become it: other classes are custom types to msgspec, which it is not told how to make."""
    return "CustomType(" not in repr(msgspec.inspect.type_info(hint))


def _awaited(value: Any) -> Any:
    """In a loop of its own: that of the cell stands still meanwhile."""
    __tracebackhide__ = True

    async def main() -> Any:
        __tracebackhide__ = True
        return await value

    cell = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return asyncio.run(main())
    finally:
        asyncio._set_running_loop(cell)
        if cell is not None:
            asyncio.set_event_loop(cell)

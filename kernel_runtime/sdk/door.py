"""The way out of a guest: what the modules of the sdk ask of the host goes through here.

Each function of theirs is written once, as what is to be asked, and made into two: one that waits, and one (its name
begins with ``a``) that is awaited.
"""

from __future__ import annotations

import functools
import inspect
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

from kernel_runtime.domain.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

#: Set in the environment of a guest, for what it starts to know where it is.
INSIDE = "KERNEL_RUNTIME_GUEST"
ELSEWHERE = (
    "the host answers the guest's own process, and none that it starts: ask there, and hand on what came "
    "(as an argument, through a pipe or a file). Ordinary clients of HTTP work here as well"
)
P = ParamSpec("P")
T = TypeVar("T")


class Host(Protocol):
    """What is outside; a value may come with a descriptor."""

    def call(self, capability: str, action: str, arguments: dict[str, Any]) -> tuple[Any, int | None]: ...
    async def acall(
        self, capability: str, action: str, arguments: dict[str, Any]
    ) -> tuple[Any, int | None]: ...


class _Door:
    host: Host | None = None


def open_to(host: Host) -> None:
    """Begin of a guest's life."""
    _Door.host = host


def _host() -> Host:
    if _Door.host is None and INSIDE in os.environ:
        raise Conflict(f"this is a subprocess of a sandboxed guest: {ELSEWHERE}")
    if _Door.host is None:
        raise Conflict(
            "kernel_runtime.sdk asks the host of a sandboxed guest, and this is none: run it in the kernel "
            "'Python (kernel_runtime)', with kernel_runtime.Session, or with `kernel-runtime run`"
        )
    return _Door.host


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """One thing to ask; ``then`` makes what the caller gets of the answer. Arguments of None are left out;
    ``opens``: what comes is a descriptor, given to ``then`` with the value."""

    capability: str
    action: str
    arguments: dict[str, Any]
    then: Callable[[Any], T]
    opens: bool = False

    def made(self, answer: tuple[Any, int | None]) -> T:
        """The answer as the caller gets it."""
        value, descriptor = answer
        if self.opens:
            return self.then(answer)
        if descriptor is not None:
            os.close(descriptor)
        return self.then(value)

    def given(self) -> dict[str, Any]:
        return {name: value for name, value in self.arguments.items() if value is not None}


def waited(ask: Ask[T]) -> T:
    """Ask and wait."""
    return ask.made(_host().call(ask.capability, ask.action, ask.given()))


async def awaited(ask: Ask[T]) -> T:
    """Ask and await."""
    return ask.made(await _host().acall(ask.capability, ask.action, ask.given()))


def both(
    plan: Callable[P, Ask[T]],
) -> tuple[Callable[P, T], Callable[P, Coroutine[Any, Any, T]]]:
    """A function that says what to ask → one that waits for the answer, and one to be awaited."""

    @functools.wraps(plan)
    def wait(*args: P.args, **kwargs: P.kwargs) -> T:
        return waited(plan(*args, **kwargs))

    @functools.wraps(plan)
    async def later(*args: P.args, **kwargs: P.kwargs) -> T:
        return await awaited(plan(*args, **kwargs))

    name = plan.__name__.lstrip("_")
    for function, called in ((wait, name), (later, f"a{name}")):
        _introduce(function, called, plan)
    later.__doc__ = f"``await`` it: {plan.__doc__}"
    return wait, later


def _introduce(function: Any, name: str, plan: Callable[..., Any]) -> None:
    """As completion and help show it: what ``Ask[T]`` makes is ``T``."""
    signature = inspect.signature(plan)
    shown = str(signature.return_annotation).removeprefix("Ask[").removesuffix("]")
    function.__name__ = function.__qualname__ = name
    parameters = [one for given in signature.parameters.values() for one in _spelled_out(given, plan)]
    function.__signature__ = signature.replace(parameters=parameters, return_annotation=shown)
    del function.__wrapped__


def _spelled_out(given: inspect.Parameter, plan: Any) -> list[inspect.Parameter]:
    """``**options: Unpack[Options]`` as the keywords that these are."""
    name = str(given.annotation)
    if not name.startswith("Unpack["):
        return [given]
    options = plan.__globals__[name.removeprefix("Unpack[").removesuffix("]")]
    return [
        inspect.Parameter(
            name, given.KEYWORD_ONLY, default=None, annotation=getattr(kind, "__forward_arg__", kind)
        )
        for name, kind in inspect.get_annotations(options).items()
    ]


def nothing(_: object) -> None:
    """Of an answer that says no more than that it is done."""


def same(value: Any) -> Any:
    """The answer as it came."""
    return value

"""The arguments of a call, checked: one struct for each action of a handler."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kernel_runtime.domain import packed
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.places import advice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kernel_runtime.broker.handler import Call

T = TypeVar("T")
#: Packed data of fewer bytes is looked through at once.
_SHORT = 8192


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Root of them; what is not named is refused."""


def read(call: Call, actions: Mapping[str, Any]) -> Any:
    """The struct of the action that is called; ``Invalid`` says what there is, or what is wrong."""
    kind = actions.get(call.action)
    if kind is None:
        raise Invalid(f"{call.capability} knows no {call.action!r}; {advice(call.action, tuple(actions))}")
    try:
        return msgspec.convert(call.arguments, kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"{call.capability}.{call.action}: {error}") from None


async def packed_up(value: Any, most: int = packed.MAX_ARGUMENTS) -> bytes:
    """See ``packed.pack``."""
    return await beside(packed.encoded(value, most), packed.vetted)


async def beside(data: bytes, read_through: Callable[[bytes], T]) -> T:
    """What is made of packed data; of much in a thread, for it is looked through value by value."""
    if len(data) <= _SHORT:
        return read_through(data)
    return await asyncio.to_thread(read_through, data)

"""The arguments of a call, checked: one struct for each action of a handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.places import advice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernel_runtime.broker.handler import Call


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

"""Calls of handlers, where everything is granted or nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kernel_runtime.broker.handler import Call
from kernel_runtime.domain.errors import CapabilityDenied

if TYPE_CHECKING:
    from kernel_runtime.broker.handler import Handler


class Demands:
    """Grants everything, or nothing, and keeps what was demanded."""

    def __init__(self, granted: bool = True) -> None:
        self.scopes: list[str] = []
        self._granted = granted

    async def __call__(self, request: Any) -> Any:
        self.scopes.append(str(request.scope))
        if not self._granted:
            raise CapabilityDenied(str(request.scope))
        return SimpleNamespace(request=request)


def perform(handler: Handler, action: str, demand: Any = None, app: str = "app", **arguments: Any) -> Any:
    call = Call(capability=handler.name, action=action, arguments=arguments, app=app, session="s1")
    return handler.perform(call, demand or Demands())


async def value(handler: Handler, action: str, demand: Any = None, **arguments: Any) -> Any:
    return (await perform(handler, action, demand, **arguments)).value

"""Calls of handlers, decided by a real gate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kernel_runtime.broker.handler import Call, Performed
from kernel_runtime.domain.conditions import Conditions
from kernel_runtime.domain.manifest import undeclared
from kernel_runtime.domain.policy import Policy, Source
from kernel_runtime.domain.rules import Effect, Layer, Rule
from kernel_runtime.domain.scopes import parse_scope

if TYPE_CHECKING:
    from kernel_runtime.broker.gate import Gate, Ticket
    from kernel_runtime.broker.handler import Handler
    from kernel_runtime.domain.decide import Request
    from kernel_runtime.state import State


class Desk:
    """A handler with a gate before it: ``await desk(action, …)``."""

    def __init__(self, handler: Handler, state: State, *scopes: str, **conditions: Any) -> None:
        rules = tuple(
            Rule(
                effect=Effect.ALLOW, scope=parse_scope(text), conditions=Conditions(**conditions), place="p:1"
            )
            for text in scopes
        )
        self.handler = handler
        self.gate: Gate = state.gate(
            undeclared("app"), Policy([Source(name="p", layer=Layer.USER, rules=rules)]), headless=True
        )

    async def demand(self, request: Request) -> Ticket:
        ticket = self.gate.ask(request)
        ticket.demand()
        return ticket

    async def __call__(self, action: str, **arguments: Any) -> Performed:
        call = Call(capability=self.handler.name, action=action, arguments=arguments, principal="ann")
        return await self.handler.perform(call, self.demand)

    def now(self, action: str, **arguments: Any) -> Any:
        """In a loop of its own: the value."""
        return asyncio.run(self(action, **arguments)).value

"""A broker for tests, a handler that obeys its calls, and a person who answers from a list."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kernel_runtime.broker.broker import Broker, Caller
from kernel_runtime.broker.handler import Call, Demand, Performed
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import NotFound
from kernel_runtime.domain.manifest import undeclared
from kernel_runtime.domain.policy import Policy, Source
from kernel_runtime.domain.rules import Effect, Layer, Rule, Span
from kernel_runtime.domain.scopes import parse_request, parse_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.question import Question
    from kernel_runtime.state import State


MANIFEST = """
id = "app"
name = "The app"
version = "1.0"
[[permissions]]
type = "net"
resource = "*.example.org"
reason = "prices of\\nthe week"
"""


class Handler:
    """``demand`` asks for the scopes that are named, ``raise`` raises, ``wait`` waits for ever."""

    name = "test"

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.closed = 0

    async def perform(self, call: Call, demand: Demand) -> Performed:
        self.begun += 1
        for scope in call.arguments.get("scopes", ()):
            await demand(Request(scope=parse_request(scope), principal="forged", session="forged"))
        if call.action == "crash":
            raise ZeroDivisionError("the-secret-value")
        if call.action == "refuse":
            raise NotFound("no the-secret-value here")
        if call.action == "wait":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        return Performed(value=call.arguments.get("give"), size=call.arguments.get("size", 0))

    async def close(self) -> None:
        self.closed += 1


class Person:
    """Answers from a list, and keeps what it was asked; ``None`` in ``gate`` means: at once."""

    def __init__(self, *answers: Span | None, gate: asyncio.Event | None = None) -> None:
        self.answers = list(answers)
        self.asked: list[Question] = []
        self.withdrawn = 0
        self._gate = gate

    async def answer(self, question: Question) -> Span | None:
        self.asked.append(question)
        try:
            if self._gate is not None:
                await self._gate.wait()
            else:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.withdrawn += 1
            raise
        return self.answers.pop(0)


def allowing(*scopes: str) -> Policy:
    rules = [Rule(effect=Effect.ALLOW, scope=parse_scope(scope), place="p:1") for scope in scopes]
    return Policy([Source(name="p", layer=Layer.USER, rules=tuple(rules))])


def broker(state: State, person: Any = None, *, policy: Policy | None = None, **options: Any) -> Broker:
    manifest = options.pop("manifest", None) or undeclared("app")
    gate = state.gate(manifest, policy or Policy(), headless=person is None)
    handler = options.pop("handler", None) or Handler()
    caller = Caller(principal="ann", session="s1")
    return Broker(gate, {"test": lambda: handler}, person, caller=caller, **options)


def ask(made: Broker, *scopes: str, action: str = "do", **arguments: Any) -> Any:
    return made.call("test", action, {"scopes": list(scopes), **arguments})


def written(state: State) -> list[tuple[str, str]]:
    return [(record.event, record.decision) for record in state.audit.records()]


def run(test: Callable[[], Any]) -> None:
    asyncio.run(test())

"""Capability ``call``: another app's handler, in a guest of that app's own.

The called app has its own manifest's powers, never the caller's. What it answers is as hostile as what the caller asks.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import msgspec

from kernel_runtime.broker.arguments import Arguments, beside, packed_up, read
from kernel_runtime.broker.handler import Performed
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.domain.errors import CallFailed, Invalid, OutsideFailed, ProtocolViolation
from kernel_runtime.domain.exchange import MAX_ARGUMENTS, read_reply
from kernel_runtime.domain.journey import Stop
from kernel_runtime.domain.scopes import Kind, make_scope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.broker.apps import Apps, Entry
    from kernel_runtime.broker.handler import Call, Demand
    from kernel_runtime.domain.journey import Journey

#: Seconds of a call that does not say, and of any; calls of one guest at a time, others wait for their turn.
SECONDS, MOST_SECONDS = 30.0, 600.0
MOST_AT_ONCE = 4

AppName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")]
#: Without a dot: it ends the scope ``call:<app>.<handler>``, which is to be read in one way.
HandlerName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$")]


class Run(Arguments, frozen=True, kw_only=True):
    app: AppName
    handler: HandlerName
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    timeout: Annotated[float, msgspec.Meta(gt=0, le=MOST_SECONDS)] = SECONDS


class Called(NamedTuple):
    """What is to be run: a handler with packed arguments, as the last stop of a journey. ``passed``: secrets of the
    caller's that stand in the arguments."""

    entry: Entry
    arguments: bytes
    journey: Journey
    passed: Disclosed


class Answered(NamedTuple):
    """What its guest left as the reply, not believed; and the secrets that it was given, or passed."""

    reply: bytes
    disclosed: Disclosed


#: Run it in a guest of its own. ``CallFailed`` when that ends without a reply; cancelled, the guest ends.
Start: TypeAlias = "Callable[[Called], Awaitable[Answered]]"


class CallHandler:
    """The calls of one guest. ``journey``: how it came to run itself; ``disclosed``: the secrets that it was given."""

    name = "call"

    def __init__(self, apps: Apps, start: Start, journey: Journey, disclosed: Disclosed) -> None:
        self._apps = apps
        self._start = start
        self._journey = journey
        self._disclosed = disclosed
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    async def perform(self, call: Call, demand: Demand) -> Performed:
        """``run``: wait for what the handler answers."""
        asked: Run = read(call, {"run": Run})
        name = f"{asked.app}.{asked.handler}"
        arguments = await packed_up(asked.arguments, MAX_ARGUMENTS)
        await demand(Request(scope=make_scope(Kind.CALL, name), size=len(arguments)))
        entry = await asyncio.to_thread(self._apps.find, asked.app, asked.handler)
        stop = Stop(asked.app, entry.manifest.place)
        journey = self._journey.on_to(stop, asked.timeout, time.monotonic())
        answered = await self._within(entry, journey, asked.arguments, arguments)
        value = await beside(answered.reply, lambda _: _value(name, answered))
        return Performed(value=value, size=len(arguments) + len(answered.reply))

    async def close(self) -> None:
        """Nothing stays: calls that go on are cancelled by the broker, and their guests end."""

    async def _within(
        self, entry: Entry, journey: Journey, arguments: dict[str, Any], data: bytes
    ) -> Answered:
        """Its turn and its run, both before the deadline. ``data``: the arguments, packed."""
        seconds = journey.left(time.monotonic())
        try:
            async with asyncio.timeout(seconds), self._turns:
                passed = await self._passed(arguments, data) if self._disclosed else Disclosed()
                return await self._start(Called(entry, data, journey, passed))
        except TimeoutError:
            raise OutsideFailed(f"{entry.name} did not answer within {seconds:.3g} s") from None

    async def _passed(self, arguments: dict[str, Any], data: bytes) -> Disclosed:
        """Those of the caller's secrets that the called app is told. Of the others it does not learn so much as the
        names, nor whether a guess is right. Numbers are looked for as they are written."""
        return await asyncio.to_thread(lambda: self._disclosed.among(data, repr(arguments).encode()))


def _value(name: str, answered: Answered) -> Any:
    """What the handler answered, without the secrets that its app was given."""
    disclosed = answered.disclosed
    try:
        reply, value = read_reply(answered.reply)
    except ProtocolViolation as error:
        raise CallFailed(f"{name} answered what is none: {error}") from None
    if reply.fault:
        fault = Invalid if reply.fault == "caller" else CallFailed
        raise fault(f"{name}: {disclosed.text(reply.text)}")
    return _concealed(value, disclosed) if disclosed else value


def _concealed(value: Any, disclosed: Disclosed) -> Any:
    if isinstance(value, str):
        return disclosed.text(value)
    if isinstance(value, bytes):
        return disclosed.bytes(value)
    if isinstance(value, list):
        return [_concealed(item, disclosed) for item in value]
    if isinstance(value, dict):
        return {_concealed(key, disclosed): _concealed(item, disclosed) for key, item in value.items()}
    if isinstance(value, int | float):
        text = str(value)
        clean = disclosed.text(text)
        return value if clean == text else clean
    return value

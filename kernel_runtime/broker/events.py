"""Capability ``events``: messages between the guests of one runtime, by topic; who does not listen loses them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from kernel_runtime.broker.arguments import Arguments, packed_up, read
from kernel_runtime.broker.handler import Performed
from kernel_runtime.broker.patience import patiently
from kernel_runtime.domain.amounts import KIB, MIB
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import CapabilityDenied, Conflict, NotFound
from kernel_runtime.domain.scopes import Kind, make_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.broker.handler import Call, Demand

#: Messages and bytes that wait for one subscriber: of more the oldest go. Of one message; of one guest.
WAITING, WAITING_BYTES = 1000, 8 * MIB
MAX_MESSAGE, MAX_SUBSCRIPTIONS = 256 * KIB, 64
_AT_ONCE, _LONGEST_POLL = 200, 60.0

Topic = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Publish(Arguments, frozen=True, kw_only=True):
    topic: Topic
    data: Any = None


class Subscribe(Arguments, frozen=True, kw_only=True):
    topic: Topic


class Poll(Arguments, frozen=True, kw_only=True):
    subscription: int
    wait: Annotated[float, msgspec.Meta(ge=0, le=_LONGEST_POLL)] = 30.0


class Unsubscribe(Arguments, frozen=True, kw_only=True):
    subscription: int


_ACTIONS = {"publish": Publish, "subscribe": Subscribe, "poll": Poll, "unsubscribe": Unsubscribe}


class Subscription:
    """Messages on their way to one subscriber."""

    def __init__(self) -> None:
        self.dropped = 0
        self._queue: deque[tuple[dict[str, Any], int]] = deque()
        self._bytes = 0
        self._there = asyncio.Event()

    def put(self, message: dict[str, Any], size: int) -> None:
        self._queue.append((message, size))
        self._bytes += size
        while len(self._queue) > WAITING or self._bytes > WAITING_BYTES:
            self._bytes -= self._queue.popleft()[1]
            self.dropped += 1
        self._there.set()

    async def something(self, wait: float) -> None:
        """Wait until there is something, ``wait`` seconds at most."""
        if wait > 0 and not self._queue:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._there.wait()

    def take(self) -> dict[str, Any]:
        """What is there, and how many were lost since the last time."""
        messages: list[dict[str, Any]] = []
        while self._queue and len(messages) < _AT_ONCE:
            message, size = self._queue.popleft()
            self._bytes -= size
            messages.append(message)
        if not self._queue:
            self._there.clear()
        dropped, self.dropped = self.dropped, 0
        return {"messages": messages, "dropped": dropped}


class Bus:
    """The topics of one runtime."""

    def __init__(self) -> None:
        self._topics: dict[str, set[Subscription]] = {}

    def publish(self, topic: str, message: dict[str, Any], size: int) -> int:
        """Pass it on; to how many."""
        found = self._topics.get(topic, ())
        for subscription in found:
            subscription.put(message, size)
        return len(found)

    def subscribe(self, topic: str) -> Subscription:
        subscription = Subscription()
        self._topics.setdefault(topic, set()).add(subscription)
        return subscription

    def unsubscribe(self, topic: str, subscription: Subscription) -> None:
        found = self._topics.get(topic, set())
        found.discard(subscription)
        if not found:
            self._topics.pop(topic, None)


class EventsHandler:
    """One guest's publications and subscriptions. ``holds``: whether what was allowed still is."""

    name = "events"

    def __init__(self, bus: Bus, holds: Callable[[Request], bool]) -> None:
        self._bus = bus
        self._holds = holds
        self._mine: dict[int, tuple[Request, Subscription]] = {}
        self._numbers = itertools.count(1)

    async def perform(self, call: Call, demand: Demand) -> Performed:
        """``publish``, ``subscribe``, ``poll`` (waits for messages), ``unsubscribe``."""
        asked = read(call, _ACTIONS)
        if isinstance(asked, Poll):
            return Performed(value=await self._polled(asked.subscription, asked.wait))
        if isinstance(asked, Publish):
            return await self._publish(call, asked, demand)
        if isinstance(asked, Subscribe):
            return await self._subscribe(asked.topic, demand)
        self._unsubscribe(asked.subscription)
        return Performed()

    async def close(self) -> None:
        for number in list(self._mine):
            self._unsubscribe(number)

    async def _publish(self, call: Call, asked: Publish, demand: Demand) -> Performed:
        data = await packed_up(asked.data, MAX_MESSAGE)
        await demand(Request(scope=make_scope(Kind.EVENTS, asked.topic, "publish"), size=len(data)))
        # Packed as it is: made, it could take 80 times as much, for as long as nobody takes it.
        message = {"topic": asked.topic, "from": call.app, "data": msgspec.Raw(data)}
        return Performed(value=self._bus.publish(asked.topic, message, len(data)), size=len(data))

    async def _subscribe(self, topic: str, demand: Demand) -> Performed:
        self._check_room()
        ticket = await demand(Request(scope=make_scope(Kind.EVENTS, topic, "subscribe")))
        self._check_room()  # others may have been granted meanwhile
        number = next(self._numbers)
        self._mine[number] = (ticket.request, self._bus.subscribe(topic))
        return Performed(value=number)

    def _check_room(self) -> None:
        if len(self._mine) >= MAX_SUBSCRIPTIONS:
            raise Conflict(f"events: {MAX_SUBSCRIPTIONS} subscriptions are open: close some")

    async def _polled(self, number: int, wait: float) -> dict[str, Any]:
        """What is there or comes, if it may still be heard: what was granted may have been taken back."""
        request, subscription = self._found(number)
        await subscription.something(wait)
        if not await patiently(lambda: self._holds(request)):
            self._unsubscribe(number)
            raise CapabilityDenied(f"{request.scope}: it was taken back")
        return subscription.take()

    def _unsubscribe(self, number: int) -> None:
        request, subscription = self._found(number)
        self._bus.unsubscribe(request.scope.target, subscription)
        del self._mine[number]

    def _found(self, number: int) -> tuple[Request, Subscription]:
        if number not in self._mine:
            raise NotFound(
                f"events: there is no subscription {number}; it ended with its guest, or was closed"
            )
        return self._mine[number]

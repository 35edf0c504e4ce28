"""Events between guests: who hears them, how many wait, and how they end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.events import MAX_SUBSCRIPTIONS, WAITING, Bus, EventsHandler
from kernel_runtime.domain import packed
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import CapabilityDenied, Conflict, Invalid, NotFound
from kernel_runtime.domain.manifest import undeclared
from kernel_runtime.domain.policy import Policy
from kernel_runtime.domain.rules import Span
from kernel_runtime.domain.scopes import parse_scope
from tests.broker.performing import Demands, perform, value

if TYPE_CHECKING:
    from kernel_runtime.state import State


def listener(bus: Bus) -> EventsHandler:
    return EventsHandler(bus, lambda request: True)


def unpacked(found: dict[str, Any]) -> Any:
    """As it crosses."""
    return packed.unpack_answer(packed.pack_answer(found))


def test_events_reach_who_listens_and_nobody_else() -> None:
    async def test() -> None:
        bus, demands = Bus(), Demands()
        one, other = listener(bus), listener(bus)
        number = await value(one, "subscribe", demands, topic="prices")
        waiting = asyncio.ensure_future(value(one, "poll", subscription=number))
        assert await value(other, "publish", demands, app="feed", topic="prices", data={"a": 1}) == 1
        assert await value(other, "publish", topic="news", data=0) == 0
        assert unpacked(await waiting) == {
            "messages": [{"topic": "prices", "from": "feed", "data": {"a": 1}}],
            "dropped": 0,
        }
        assert await value(one, "poll", subscription=number, wait=0.0) == {"messages": [], "dropped": 0}
        with pytest.raises(NotFound):
            await perform(other, "poll", subscription=number)
        await perform(one, "unsubscribe", subscription=number)
        assert await value(other, "publish", topic="prices") == 0
        assert demands.scopes == ["events:subscribe:prices", "events:publish:prices"]

    asyncio.run(test())


def test_who_does_not_take_events_loses_the_oldest() -> None:
    async def test() -> None:
        handler = listener(Bus())
        number = await value(handler, "subscribe", topic="t")
        for n in range(WAITING + 5):
            await perform(handler, "publish", topic="t", data=n)
        found = unpacked(await value(handler, "poll", subscription=number))
        assert (found["dropped"], found["messages"][0]["data"]) == (5, 5)
        for _ in range(MAX_SUBSCRIPTIONS - 1):
            await perform(handler, "subscribe", topic="t")
        with pytest.raises(Conflict):
            await perform(handler, "subscribe", topic="t")
        with pytest.raises(Invalid):
            await perform(handler, "publish", topic="t", data=bytes(1 << 20))
        with pytest.raises(Invalid):
            await perform(handler, "publish", topic="not a topic", data=1)
        await handler.close()

    asyncio.run(test())


def test_events_that_are_not_granted_are_neither_said_nor_heard() -> None:
    async def test() -> None:
        bus = Bus()
        handler = listener(bus)
        number = await value(handler, "subscribe", topic="t")
        for action in ("publish", "subscribe"):
            with pytest.raises(CapabilityDenied):
                await perform(handler, action, Demands(granted=False), topic="t")
        assert await value(handler, "poll", subscription=number, wait=0.0) == {"messages": [], "dropped": 0}

    asyncio.run(test())


def test_events_end_with_what_granted_them(state: State) -> None:
    async def test() -> None:
        bus = Bus()
        gate = state.gate(undeclared("app"), Policy([]))
        scope = parse_scope("events:subscribe:t")
        gate.grant(Request(scope=scope), Span.ONCE)

        async def demand(request: Request) -> Any:
            ticket = gate.ask(request)
            ticket.demand()
            return ticket

        one, other = EventsHandler(bus, gate.holds), listener(bus)
        number = await value(one, "subscribe", demand, topic="t")
        for n in range(2):  # used up by the subscription, and for as long as that lasts
            await perform(other, "publish", topic="t", data=n)
            assert unpacked(await value(one, "poll", subscription=number))["messages"][0]["data"] == n
        waiting = asyncio.ensure_future(value(one, "poll", subscription=number))
        await asyncio.sleep(0)
        assert gate.revoke(scope) == 1
        await perform(other, "publish", topic="t", data="for others")
        with pytest.raises(CapabilityDenied, match="taken back"):
            await waiting
        assert await value(other, "publish", topic="t") == 0

    asyncio.run(test())


def test_no_more_subscriptions_than_may_be_are_granted_at_a_time() -> None:
    async def test() -> None:
        handler, asked = listener(Bus()), asyncio.Event()

        async def demand(request: Request) -> Any:
            await asked.wait()
            return SimpleNamespace(request=request)

        calls = [value(handler, "subscribe", demand, topic="t") for _ in range(MAX_SUBSCRIPTIONS + 5)]
        done = asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0)
        asked.set()
        assert sum(isinstance(one, Conflict) for one in await done) == 5

    asyncio.run(test())

"""The handlers that need nothing but this host and are small: secrets, cache, clock, env."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker.cache import CacheHandler, MemoryCache
from kernel_runtime.broker.host import ClockHandler, EnvHandler
from kernel_runtime.broker.secrets import Secrets, SecretsHandler
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.domain.errors import CapabilityDenied, NotFound
from tests.broker.performing import Demands, perform, value

if TYPE_CHECKING:
    from kernel_runtime.state import State

# -- secrets ---------------------------------------------------------------------------------------------


def test_a_granted_secret_is_given_and_known_to_what_is_shown(state: State) -> None:
    async def test() -> None:
        state.vault().set("api-token", b"tok-12345678")
        state.vault().set("raw", b"\xff\xfe\xfd\xfc\xfb\xfa")
        disclosed, demands = Disclosed(), Demands()
        handler = SecretsHandler(Secrets(state.vault, disclosed))
        assert disclosed.text("tok-12345678") == "tok-12345678"  # the control: not opened yet
        assert await value(handler, "get", demands, name="api-token") == "tok-12345678"
        assert await value(handler, "get", name="raw") == b"\xff\xfe\xfd\xfc\xfb\xfa"
        assert demands.scopes == ["secret:api-token"]
        assert disclosed.text("it is tok-12345678.") == "it is [secret api-token]."
        with pytest.raises(NotFound):
            await perform(handler, "get", name="nothing")
        await handler.close()

    asyncio.run(test())


def test_a_secret_that_is_not_granted_is_not_opened(state: State) -> None:
    async def test() -> None:
        state.vault().set("api-token", b"tok-12345678")
        disclosed = Disclosed()
        handler = SecretsHandler(Secrets(state.vault, disclosed))
        with pytest.raises(CapabilityDenied):
            await perform(handler, "get", Demands(granted=False), name="api-token")
        assert not disclosed

    asyncio.run(test())


# -- cache -----------------------------------------------------------------------------------------------


def test_values_are_cached_for_a_while_and_for_one_app() -> None:
    async def test() -> None:
        now = [0.0]
        cache = MemoryCache(ticks=lambda: now[0])
        handler, demands = CacheHandler(lambda: cache, "app"), Demands()
        await perform(handler, "set", demands, key="x", value=[1], ttl=10.0)
        assert await value(handler, "get", demands, key="x") == {"found": True, "value": [1]}
        assert (await value(CacheHandler(lambda: cache, "other"), "get", key="x"))["found"] is False
        now[0] = 10.0
        assert (await value(handler, "get", key="x"))["found"] is False
        await perform(handler, "set", key="x", value=None)
        assert await value(handler, "get", key="x") == {"found": True, "value": None}
        assert await value(handler, "delete", key="x") is True
        assert await value(handler, "delete", key="x") is False
        assert demands.scopes == ["cache", "cache"]
        with pytest.raises(CapabilityDenied):
            await perform(handler, "get", Demands(granted=False), key="x")

    asyncio.run(test())


def test_of_a_full_cache_what_was_not_used_for_longest_goes() -> None:
    async def test() -> None:
        cache = MemoryCache(most=3500)
        for key in "abc":
            await cache.set("app", key, bytes(1000), 60.0)
        await cache.get("app", "a")
        await cache.set("app", "d", bytes(1000), 60.0)
        assert [await cache.get("app", key) is not None for key in "abcd"] == [True, False, True, True]
        await cache.set("app", "huge", bytes(10_000), 60.0)
        assert await cache.get("app", "huge") is None

    asyncio.run(test())


# -- clock and env -----------------------------------------------------------------------------------------


def test_clock_and_env_give_what_is_granted() -> None:
    async def test() -> None:
        demands = Demands()
        assert (await value(ClockHandler(), "now", demands))["now"] > 1.7e9
        env = EnvHandler({"REGION": "eu"})
        assert await value(env, "get", demands, name="REGION") == "eu"
        assert demands.scopes == ["clock", "env:REGION"]
        with pytest.raises(NotFound):
            await perform(env, "get", name="OTHER")
        with pytest.raises(CapabilityDenied):
            await perform(env, "get", Demands(granted=False), name="OTHER")

    asyncio.run(test())

"""One suite for both caches, the embedded and the one on a real server; and what only a server can do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker.cache import CacheHandler, MemoryCache, taken
from kernel_runtime.broker.cache_redis import RedisCache
from kernel_runtime.broker.caches import Server
from kernel_runtime.domain.errors import CapabilityDenied, Damaged, Invalid, OutsideFailed
from tests.broker import redis_server
from tests.broker.granting import Desk
from tests.broker.redis_server import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.broker.cache import Cache
    from kernel_runtime.state import State
    from tests.broker.redis_server import RedisServer

MOST = 3500


@pytest.fixture(params=["embedded", "server"])
def make(request: pytest.FixtureRequest) -> Callable[[], Cache]:
    """Makes the cache that a test is about, with room for ``MOST`` bytes of each app."""
    if request.param == "embedded":
        return lambda: MemoryCache(most=MOST)
    server = request.getfixturevalue("empty_redis")
    return lambda: RedisCache(Server(url=server.url), PASSWORD, most=MOST)


def story(make: Callable[[], Cache], tell: Callable[[Cache], Awaitable[None]]) -> None:
    """Tell it, in a loop of its own."""

    async def told() -> None:
        cache = make()
        try:
            await tell(cache)
        finally:
            await cache.close()

    asyncio.run(told())


# -- both --------------------------------------------------------------------------------------------------


def test_values_come_back_for_their_app_alone(make: Callable[[], Cache]) -> None:
    async def tell(cache: Cache) -> None:
        await cache.set("app", "x", b"\x00\xff", 60.0)
        assert await cache.get("app", "x") == b"\x00\xff"
        assert await cache.get("other", "x") is None
        assert await cache.delete("other", "x") is False
        await cache.set("app", "x", b"", 60.0)
        assert await cache.get("app", "x") == b""
        assert await cache.delete("app", "x") is True
        assert await cache.delete("app", "x") is False
        assert await cache.get("app", "x") is None

    story(make, tell)


@pytest.mark.parametrize("key", [" ", "*", "}:x", "value:", "a\r\nFLUSHALL\r\n", "é\x00", "x" * 512])
def test_any_text_is_a_key_and_none_leads_elsewhere(make: Callable[[], Cache], key: str) -> None:
    async def tell(cache: Cache) -> None:
        await cache.set("app", "there", b"1", 60.0)
        await cache.set(f"app {key}", key, b"2", 60.0)
        await cache.set("app", key, b"3", 60.0)
        assert [await cache.get("app", "there"), await cache.get(f"app {key}", key)] == [b"1", b"2"]
        assert await cache.get("app", key) == b"3"
        assert await cache.delete("app", key) is True
        assert [await cache.get("app", "there"), await cache.get(f"app {key}", key)] == [b"1", b"2"]

    story(make, tell)


def test_a_value_ends_with_its_time(make: Callable[[], Cache]) -> None:
    async def tell(cache: Cache) -> None:
        await cache.set("app", "short", b"1", 0.02)
        await cache.set("app", "long", b"2", 60.0)
        await cache.set("app", "again", b"3", 0.02)
        await cache.set("app", "again", b"4", 60.0)
        while await cache.get("app", "short") is not None:
            await asyncio.sleep(0.001)
        assert await cache.delete("app", "short") is False
        assert [await cache.get("app", key) for key in ("long", "again")] == [b"2", b"4"]

    story(make, tell)


def test_of_a_full_cache_what_was_not_used_for_longest_goes(make: Callable[[], Cache]) -> None:
    async def tell(cache: Cache) -> None:
        await cache.set("other", "a", bytes(1000), 60.0)
        for key in "abc":
            await cache.set("app", key, bytes(1000), 60.0)
        await cache.get("app", "a")
        await cache.set("app", "d", bytes(1000), 60.0)
        assert [await cache.get("app", key) is not None for key in "abcd"] == [True, False, True, True]
        await cache.set("app", "huge", bytes(10_000), 60.0)
        assert [await cache.get("app", key) for key in ("a", "huge")] == [None, None]
        assert await cache.get("other", "a") == bytes(1000)

    story(make, tell)


def test_what_is_replaced_removed_or_ended_takes_no_room(make: Callable[[], Cache]) -> None:
    async def tell(cache: Cache) -> None:
        await cache.set("app", "kept", bytes(1000), 60.0)
        for _ in range(10):
            await cache.set("app", "x", bytes(1000), 60.0)
            await cache.set("app", "y", bytes(1000), 60.0)
            await cache.delete("app", "y")
            await cache.set("app", "z", bytes(1000), 0.001)
            while await cache.get("app", "z") is not None:
                await asyncio.sleep(0.001)
        assert await cache.get("app", "kept") == bytes(1000)

    story(make, tell)


def test_a_guest_asks_for_it_and_gets_plain_data(make: Callable[[], Cache], state: State) -> None:
    async def told() -> None:
        handler = CacheHandler(make, "app")
        desk = Desk(handler, state, "cache")
        await desk("set", key="x", value={"a": [1, b"2", None]}, ttl=60.0)
        assert (await desk("get", key="x")).value == {"found": True, "value": {"a": [1, b"2", None]}}
        assert (await desk("get", key="y")).value == {"found": False, "value": None}
        with pytest.raises(CapabilityDenied):
            await Desk(handler, state)("get", key="x")
        await handler.close()

    asyncio.run(told())


# -- the server --------------------------------------------------------------------------------------------


def test_values_on_the_server_end_there_and_are_counted(empty_redis: RedisServer) -> None:
    def make() -> Cache:
        return RedisCache(Server(url=empty_redis.url), PASSWORD)

    async def tell(cache: Cache) -> None:
        for key in ("x", "y"):
            await cache.set("app", key, bytes(1000), 60.0)

    story(make, tell)
    with empty_redis.client() as client:
        keys = sorted(client.keys())
        assert len(keys) == 4
        assert all(key.startswith(b"kernel-runtime:cache:{") for key in keys)
        assert all(client.pttl(key) > 0 for key in keys)
        (sizes,) = (key for key in keys if key.endswith(b":sizes"))
        assert int(client.hget(sizes, "")) == taken("x", bytes(1000)) + taken("y", bytes(1000))


def test_sessions_share_what_is_on_the_server(empty_redis: RedisServer) -> None:
    async def told() -> None:
        one, other = (RedisCache(Server(url=empty_redis.url), PASSWORD, most=MOST) for _ in range(2))
        await one.set("app", "x", b"1", 60.0)
        assert await other.get("app", "x") == b"1"
        await asyncio.gather(
            *(cache.set("app", f"{n}", bytes(1000), 60.0) for n in range(50) for cache in (one, other))
        )
        found = [await one.get("app", f"{n}") for n in range(50)]
        assert sum(value is not None for value in found) == MOST // taken("00", bytes(1000))
        await one.close()
        await other.close()

    asyncio.run(told())


def test_a_server_that_is_lost_is_told_and_found_again(state: State) -> None:
    pytest.importorskip("redis")

    async def told(server: RedisServer) -> None:
        handler = CacheHandler(lambda: RedisCache(Server(url=server.url), PASSWORD), "app")
        desk = Desk(handler, state, "cache")
        await desk("set", key="x", value=1)
        server.end()
        for action, arguments in (("get", {}), ("set", {"value": 2}), ("delete", {})):
            with pytest.raises(OutsideFailed, match="the cache cannot be used") as caught:
                await desk(action, key="x", **arguments)
            assert str(server.socket) not in str(caught.value)
        server.start()
        assert (await desk("get", key="x")).value["found"] is False  # what was lost is lost
        await desk("set", key="x", value=3)
        assert (await desk("get", key="x")).value["value"] == 3
        await handler.close()

    with redis_server.running() as server:
        asyncio.run(told(server))


def test_a_server_that_does_not_answer_is_not_waited_for(
    empty_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told() -> None:
        patient = RedisCache(Server(url=empty_redis.url), PASSWORD)
        await patient.set("app", "x", b"1", 60.0)
        monkeypatch.setattr("kernel_runtime.broker.cache_redis.SECONDS", 0.1)
        hasty = RedisCache(Server(url=empty_redis.url), PASSWORD)
        with empty_redis.stopped(), pytest.raises(OutsideFailed, match="cannot be used"):
            await hasty.get("app", "x")
        assert await patient.get("app", "x") == b"1"  # the control
        for cache in (hasty, patient):
            await cache.close()

    asyncio.run(told())


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://h", "Connection"),
        ("valkey://h", "Connection"),
        ("rediss://h", "SSLConnection"),
        ("valkeys://h", "SSLConnection"),
        ("unix:///s", "UnixDomainSocketConnection"),
    ],
)
def test_the_url_says_how_it_is_reached(url: str, kind: str) -> None:
    pytest.importorskip("redis")
    assert RedisCache(Server(url=url))._client.connection_pool.connection_class.__name__ == kind


def test_trouble_tells_neither_where_the_server_is_nor_its_password(empty_redis: RedisServer) -> None:
    async def told(url: str, password: str) -> str:
        cache = RedisCache(Server(url=url), password)
        with pytest.raises(OutsideFailed) as caught:
            await cache.get("app", "x")
        await cache.close()
        return str(caught.value)

    for url in (empty_redis.url, "redis://someone@127.0.0.1:1/0"):
        said = asyncio.run(told(url, "a wrong password"))
        assert not any(word in said for word in ("password", "127.0.0.1", "someone", str(empty_redis.socket)))
    with pytest.raises(Invalid, match=r"see cache\.toml"):
        RedisCache(Server(url="redis://h:port/0"))


def test_what_somebody_else_wrote_there_is_not_taken_for_a_value(
    empty_redis: RedisServer, state: State
) -> None:
    async def told() -> None:
        handler = CacheHandler(lambda: RedisCache(Server(url=empty_redis.url), PASSWORD), "app")
        desk = Desk(handler, state, "cache")
        await desk("set", key="x", value=1)
        with empty_redis.client() as client:
            (place,) = client.keys("*:value:x")
            client.set(place, b"\xdd\xff\xff\xff\xff")
        with pytest.raises(Damaged):
            await desk("get", key="x")
        await handler.close()

    asyncio.run(told())

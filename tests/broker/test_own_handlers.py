"""The handlers that need nothing but this host: log, storage, secrets, cache, events, clock, env."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.cache import CacheHandler, MemoryCache
from kernel_runtime.broker.events import MAX_SUBSCRIPTIONS, WAITING, Bus, EventsHandler
from kernel_runtime.broker.handler import Call
from kernel_runtime.broker.host import ClockHandler, EnvHandler
from kernel_runtime.broker.log import LogHandler, Logs
from kernel_runtime.broker.secrets import Secrets, SecretsHandler
from kernel_runtime.broker.storage import StorageHandler
from kernel_runtime.domain import packed
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.domain.errors import CapabilityDenied, Conflict, Invalid, NotFound
from kernel_runtime.domain.manifest import undeclared
from kernel_runtime.domain.policy import Policy
from kernel_runtime.domain.rules import Span
from kernel_runtime.domain.scopes import parse_scope
from kernel_runtime.store.storage import OVERHEAD, SqlStorage

if TYPE_CHECKING:
    from pathlib import Path

    from kernel_runtime.broker.handler import Handler
    from kernel_runtime.state import State


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


# -- what all have in common -----------------------------------------------------------------------------


def test_actions_and_arguments_that_are_none_are_refused(state: State) -> None:
    async def test() -> None:
        handler = StorageHandler(state.storage, "app")
        for action, arguments in (
            ("gte", {"key": "x"}),
            ("get", {}),
            ("get", {"key": 7}),
            ("get", {"key": ""}),
            ("get", {"key": "x" * 513}),
            ("get", {"key": "x", "quota": 1}),
        ):
            with pytest.raises(Invalid, match=r"^storage"):
                await perform(handler, action, **arguments)
        with pytest.raises(Invalid, match="did you mean 'get'"):
            await perform(handler, "gte", key="x")
        await handler.close()

    asyncio.run(test())


# -- log -------------------------------------------------------------------------------------------------


def test_log_records_are_in_memory_at_once_and_on_disk_at_the_end(state: State) -> None:
    async def test() -> None:
        logs = Logs()
        handler = LogHandler(logs, lambda: state.logs, lambda text: text.replace("hunter2", "[secret pin]"))
        await perform(
            handler, "write", level="warning", message="a hunter2", fields={"rows": 3, "x": "hunter2"}
        )
        await perform(handler, "write", message="b")
        assert [(r.level, r.message, r.fields) for r in logs.since(0)] == [
            ("warning", "a [secret pin]", {"rows": "3", "x": "[secret pin]"}),
            ("info", "b", {}),
        ]
        assert [r.message for r in logs.since(1)] == ["b"]
        await handler.close()
        assert [(r.message, r.session) for r in state.logs.records("app")] == [
            ("a [secret pin]", "s1"),
            ("b", "s1"),
        ]
        assert state.logs.records("other") == []

    asyncio.run(test())


@pytest.mark.parametrize(
    "arguments",
    [
        {"message": "x" * 100_000},
        {"message": "x", "level": "loud"},
        {"message": "x", "fields": {str(n): n for n in range(1000)}},
    ],
)
def test_log_records_are_bounded(state: State, arguments: dict[str, Any]) -> None:
    async def test() -> None:
        with pytest.raises(Invalid):
            await perform(LogHandler(Logs(), lambda: state.logs), "write", **arguments)

    asyncio.run(test())


def test_of_the_records_on_disk_the_newest_are_kept(state: State) -> None:
    from kernel_runtime.store.logs import SqlLogs

    async def test() -> None:
        handler = LogHandler(Logs(), lambda: SqlLogs(state.logs._database, kept=10))
        for number in range(25):
            await perform(handler, "write", message=str(number))
        await handler.close()

    asyncio.run(test())
    assert [r.message for r in state.logs.records("app")] == [str(n) for n in range(15, 25)]


def test_records_are_bounded_by_what_they_take_in_memory_and_on_disk(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernel_runtime.broker.log.IN_MEMORY_BYTES", 400_000)
    monkeypatch.setattr("kernel_runtime.broker.log.AT_ONCE", 800_000)
    monkeypatch.setattr("kernel_runtime.broker.log.A_SECOND", 1e-9)

    async def test() -> None:
        logs = Logs()
        handler = LogHandler(logs, lambda: state.logs)
        for number in range(20):  # each takes 64 kB: four bytes a character
            await perform(handler, "write", message="\U0001f600" * 15_990 + str(number))
        assert [r.number for r in logs.records] == list(range(15, 21))
        await handler.close()
        written = [r.message[15_990:] for r in state.logs.records("app")]
        assert written == [str(number) for number in range(6, 12)]
        assert logs.lost == 14
        another = LogHandler(logs, lambda: state.logs)  # of the next call of an app: no room of its own
        await perform(another, "write", message="\U0001f600" * 15_990)
        await another.close()
        assert (len(state.logs.records("app")), logs.lost) == (len(written), 15)
        fresh = LogHandler(Logs(), lambda: state.logs)  # the control
        await perform(fresh, "write", message="x")
        await fresh.close()
        assert len(state.logs.records("app")) == len(written) + 1

    asyncio.run(test())


def test_no_part_of_a_secret_stays_where_a_field_is_cut(state: State) -> None:
    disclosed = Disclosed()
    disclosed.add("pin", b"correct horse battery staple")

    async def test() -> None:
        logs = Logs()
        handler = LogHandler(logs, lambda: state.logs, disclosed.text)
        await perform(
            handler,
            "write",
            message="",
            fields={"x": "-" * 1980 + "correct horse battery staple", "y": "-" * 9999},
        )
        [record] = logs.records
        assert "corr" not in record.fields["x"]
        assert record.fields["y"] == "-" * 1999 + "…"
        await handler.close()

    asyncio.run(test())


# -- storage ---------------------------------------------------------------------------------------------


def test_storage_keeps_values_for_each_app_apart(state: State) -> None:
    async def test() -> None:
        handler, other = StorageHandler(state.storage, "app"), StorageHandler(state.storage, "other")
        for key, kept in (("a/1", {"x": [1, None, b"\x00"]}), ("a/2", 2), ("b", "text")):
            await perform(handler, "set", key=key, value=kept)
        assert await value(handler, "get", key="a/1") == {"found": True, "value": {"x": [1, None, b"\x00"]}}
        assert await value(handler, "keys", prefix="a/") == ["a/1", "a/2"]
        assert await value(handler, "keys", prefix="a/", after="a/1") == ["a/2"]
        assert await value(other, "get", key="a/1") == {"found": False, "value": None}
        assert await value(other, "delete", key="b") is False
        assert await value(handler, "delete", key="b") is True
        assert await value(handler, "get", key="b") == {"found": False, "value": None}
        await handler.close()
        assert await value(handler, "get", key="a/2") == {"found": True, "value": 2}  # on disk
        await handler.close()
        await other.close()

    asyncio.run(test())


def test_storage_counts_what_is_replaced_and_removed(state: State) -> None:
    async def test() -> None:
        handler = StorageHandler(state.storage, "app", quota=10_000)
        for size in (9000, 100, 9000):
            await perform(handler, "set", key="x", value=bytes(size))
        with pytest.raises(Conflict, match="quota"):
            await perform(handler, "set", key="y", value=bytes(2000))
        assert await value(handler, "keys") == ["x"]
        await perform(handler, "delete", key="x")
        assert await value(handler, "used") == {"used": 0, "quota": 10_000}
        await perform(handler, "set", key="y", value=bytes(2000))
        await handler.close()

    asyncio.run(test())


def test_the_quota_of_storage_holds_whoever_else_writes(tmp_path: Path) -> None:
    """Several connections, as of several sessions, each in its thread: together they keep no more."""
    directory = tmp_path / "state"
    size, fits = 1000, 10
    quota = fits * (size + len("0-0") + OVERHEAD)
    refused: list[int] = []

    def write(number: int) -> None:
        store = SqlStorage(directory, patience=60.0)
        for attempt in range(fits):
            try:
                store.set("app", f"{number}-{attempt}", bytes(size), quota)
            except Conflict:
                refused.append(number)
        store.close()

    SqlStorage(directory).close()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = SqlStorage(directory)
    assert len(store.keys("app", "", "", 1000)) == fits
    assert store.used("app") == quota
    assert len(refused) == 3 * fits
    store.close()


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


# -- events ----------------------------------------------------------------------------------------------


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

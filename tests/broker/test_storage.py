"""What apps keep on the host: each its own, and no more than its quota."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker.storage import StorageHandler
from kernel_runtime.domain.errors import Conflict, Invalid
from kernel_runtime.store.storage import OVERHEAD, SqlStorage
from tests.broker.performing import perform, value

if TYPE_CHECKING:
    from pathlib import Path

    from kernel_runtime.state import State


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

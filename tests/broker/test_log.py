"""Log records of guests: in memory and on disk, bounded in both, without secrets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.log import LogHandler, Logs
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.domain.errors import Invalid
from tests.broker.performing import perform

if TYPE_CHECKING:
    from kernel_runtime.state import State


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

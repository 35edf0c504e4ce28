"""The broker: calls decided, performed and written down; nothing hangs and nothing leaks."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker.handler import Call, Demand, Performed
from kernel_runtime.domain.errors import (
    CapabilityDenied,
    Invalid,
    KernelRuntimeError,
    NotFound,
    StorageFailed,
)
from tests.broker.asking import Handler, allowing, ask, broker, run, written

if TYPE_CHECKING:
    from kernel_runtime.state import State


def test_what_is_granted_is_performed_and_written_down(state: State) -> None:
    async def test() -> None:
        made = broker(state, policy=allowing("cache"))
        assert (await ask(made, "cache", give=7, size=100)).value == 7
        assert written(state) == [("decision", "allow"), ("performed", "allow")]
        record = list(state.audit.records())[-1]
        assert (record.bytes, record.principal, record.app) == (100, "ann", "app")
        assert (made.usage["test"].calls, made.usage["test"].bytes, made.usage["test"].errors) == (1, 100, 0)

    run(test)


def test_what_is_not_granted_says_what_to_ask_for(state: State) -> None:
    async def test() -> None:
        made = broker(state)
        with pytest.raises(CapabilityDenied, match=r"--allow net:api\.example\.org:443/GET"):
            await ask(made, "net:api.example.org/GET")
        assert written(state) == [("decision", "deny")]
        assert made.usage["test"].denied == 1

    run(test)


def test_a_handler_cannot_speak_for_another_principal(state: State) -> None:
    async def test() -> None:
        await ask(broker(state, policy=allowing("cache")), "cache")
        assert {record.principal for record in state.audit.records()} == {"ann"}

    run(test)


def test_a_crash_is_answered_without_what_it_says(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        made = broker(
            state, policy=allowing("cache"), redact=lambda text: text.replace("the-secret-value", "[secret]")
        )
        with pytest.raises(KernelRuntimeError, match="the host's handler failed") as caught:
            await ask(made, "cache", action="crash")
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert "ZeroDivisionError: [secret]" in capsys.readouterr().err
        with pytest.raises(NotFound, match=r"no \[secret\] here"):
            await ask(made, action="refuse")
        assert (await ask(made, give=1)).value == 1  # it goes on
        assert made.usage["test"].errors == 2
        assert "the-secret-value" not in repr(list(state.audit.records()))

    run(test)


def test_what_there_is_not_is_named(state: State) -> None:
    async def test() -> None:
        with pytest.raises(Invalid, match="there are test"):
            await broker(state).call("http", "request", {})

    run(test)


# -- ends, and states that fail ------------------------------------------------------------------------


def test_cancelled_calls_are_stopped_and_written_down(state: State) -> None:
    async def test() -> None:
        handler = Handler()
        made = broker(state, policy=allowing("cache"), handler=handler)
        call = asyncio.ensure_future(ask(made, "cache", action="wait"))
        while handler.begun == 0:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert handler.cancelled == 1
        assert [record.reason for record in state.audit.records()][-1] == "cancelled"
        assert made.usage["test"].running == 0

    run(test)


def test_the_end_of_a_session_ends_all_calls(state: State) -> None:
    async def test() -> None:
        handler = Handler()
        closed: list[bool] = []
        made = broker(state, handler=handler, on_close=lambda: closed.append(True))
        calls = [asyncio.ensure_future(ask(made, action="wait")) for _ in range(20)]
        while handler.begun < 20:
            await asyncio.sleep(0)
        await made.close()
        await made.close()
        assert all(call.cancelled() for call in calls)
        assert (handler.cancelled, handler.closed, closed) == (20, 1, [True])
        with pytest.raises(KernelRuntimeError, match="being closed"):
            await ask(made)

    run(test)


def test_a_locked_database_is_waited_for_and_then_denies(state: State) -> None:
    async def test() -> None:
        made = broker(state, policy=allowing("cache"), patience=0.1)
        other = sqlite3.connect(state.directory / "state.db", isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(CapabilityDenied, match="what cannot be written down is not allowed"):
                await ask(made, "cache")
            made._patience = 60.0
            waiting = asyncio.ensure_future(ask(made, "cache", give=1))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            other.execute("COMMIT")
            assert (await waiting).value == 1
        finally:
            other.close()

    run(test)


def test_what_was_done_and_cannot_be_written_down_is_not_given(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        made = broker(state, policy=allowing("cache"), patience=0.01)

        def full(*args: object, **options: object) -> None:
            raise StorageFailed("the disk is full")

        monkeypatch.setattr(made.gate, "performed", full)
        with pytest.raises(StorageFailed):
            await ask(made, "cache", give=1)

    run(test)


def test_a_descriptor_that_nobody_gets_is_closed(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    class Opener(Handler):
        async def perform(self, call: Call, demand: Demand) -> Performed:
            reading, writing = os.pipe()
            os.close(writing)
            self.opened = reading
            await super().perform(call, demand)
            return Performed(descriptors=(reading,))

    async def test() -> None:
        opener = Opener()
        made = broker(state, policy=allowing("cache"), handler=opener, patience=60.0)
        given = await ask(made, "cache")
        os.close(*given.descriptors)  # control: what is answered is whose it was answered to

        def locked(*args: object, **options: object) -> None:
            raise StorageFailed("locked")

        monkeypatch.setattr(made.gate, "performed", locked)
        call = asyncio.ensure_future(ask(made, "cache"))
        await asyncio.sleep(0)
        call.cancel()  # while it waits to be written down
        await asyncio.wait([call])
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(opener.opened)

    run(test)


def test_who_is_denied_again_and_again_waits(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel_runtime.broker.broker.DENIALS", 3)
    monkeypatch.setattr("kernel_runtime.broker.broker.DENIALS_A_SECOND", 0.001)

    async def test() -> None:
        made = broker(state, policy=allowing("cache"))
        for _ in range(5):  # what is allowed costs nothing
            assert (await ask(made, "cache", give=1)).value == 1
        for _ in range(3):
            with pytest.raises(CapabilityDenied):
                await ask(made, "clock")
        before = len(written(state))
        flood = [asyncio.ensure_future(ask(made, "clock")) for _ in range(50)]
        await asyncio.wait(flood, timeout=0.05)
        assert not any(one.done() for one in flood)
        assert len(written(state)) == before
        await made.close()
        assert all(one.cancelled() for one in flood)

    run(test)


def test_what_is_allowed_to_who_waits_is_not_paid_for(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel_runtime.broker.broker.DENIALS", 1)
    monkeypatch.setattr("kernel_runtime.broker.broker.DENIALS_A_SECOND", 20.0)

    async def test() -> None:
        made = broker(state, policy=allowing("cache"))
        with pytest.raises(CapabilityDenied):
            await ask(made, "clock")
        debt: list[float] = []
        for _ in range(3):
            await ask(made, "cache")
            debt.append(made._denials.wait(0.0))
        assert max(debt) < 2 / 20.0

    run(test)

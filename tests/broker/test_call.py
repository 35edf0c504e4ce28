"""The capability call, up to the guest that runs the handler: what is asked, and what comes back, is hostile."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kernel_runtime.broker.apps import Apps
from kernel_runtime.broker.call import MOST_AT_ONCE, Answered, Called, CallHandler
from kernel_runtime.domain import packed
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.domain.errors import (
    CallFailed,
    CapabilityDenied,
    Conflict,
    Invalid,
    NotFound,
    OutsideFailed,
)
from kernel_runtime.domain.exchange import MAX_ARGUMENTS, MAX_REPLY, Reply
from kernel_runtime.domain.journey import Journey, Stop
from tests.broker.calling import install
from tests.broker.granting import Desk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kernel_runtime.state import State

SOURCE = "def latest(metal):\n    return metal\ndef other():\n    return 1\n"


def replied(value: Any = None, **fields: Any) -> bytes:
    return packed.pack(Reply(value=packed.pack(value), **fields))


class Guests:
    """What would run handlers: answers ``reply``, and keeps what it was to run."""

    def __init__(self, reply: bytes = b"", disclosed: Disclosed | None = None) -> None:
        self.reply = reply or replied({"price": 9.5})
        self.disclosed = disclosed or Disclosed()
        self.called: list[Called] = []

    async def __call__(self, called: Called) -> Answered:
        self.called.append(called)
        return Answered(self.reply, self.disclosed)


@pytest.fixture
def desk(tmp_path: Path, state: State) -> Callable[..., Desk]:
    install(tmp_path / "config", tmp_path / "apps", prices=SOURCE)
    apps = Apps({"XDG_CONFIG_HOME": str(tmp_path / "config")}, system=tmp_path / "etc" / "policy.toml")

    def make(
        start: Any, *scopes: str, journey: Journey | None = None, disclosed: Disclosed | None = None
    ) -> Desk:
        begun = journey or Journey(stops=(Stop("notebook", "/n"),))
        handler = CallHandler(apps, start, begun, disclosed or Disclosed())
        return Desk(handler, state, *(scopes or ("call:prices.*",)))

    return make


def run(desk: Desk, app: str = "prices", handler: str = "latest", **more: Any) -> Any:
    return desk.now("run", app=app, handler=handler, **more)


def test_a_granted_handler_is_run_as_the_next_stop(desk: Callable[..., Desk], tmp_path: Path) -> None:
    guests = Guests()
    assert run(desk(guests), arguments={"metal": "tin"}, timeout=5.0) == {"price": 9.5}
    (called,) = guests.called
    assert packed.unpack(called.arguments) == {"metal": "tin"}
    assert [stop.app for stop in called.journey.stops] == ["notebook", "prices"]
    assert called.journey.stops[-1].place == str(tmp_path / "apps" / "prices" / "app.toml")
    assert called.journey.deadline is not None


def test_what_is_not_granted_is_not_run_and_not_told(desk: Callable[..., Desk]) -> None:
    guests = Guests()
    calls = desk(guests, "call:prices.latest")
    run(calls)  # the control
    for app, handler in (("prices", "other"), ("prices", "no-such"), ("no-such", "latest")):
        with pytest.raises(CapabilityDenied, match=rf"call:{app}\.{handler}"):
            run(calls, app, handler)
    assert len(guests.called) == 1


@pytest.mark.parametrize(
    ("app", "handler"),
    [
        ("../prices", "latest"),
        ("/etc", "latest"),
        ("prices/../prices", "latest"),
        ("PRICES", "latest"),
        ("*", "latest"),
        ("prices\n", "latest"),
        ("prices", "../latest"),
        ("prices", "*"),
        ("prices", "la.test"),
        ("prices", "latest\x00"),
        ("p" * 65, "latest"),
        ("prices", "l" * 64),
    ],
)
def test_names_that_are_none_are_refused(desk: Callable[..., Desk], app: str, handler: str) -> None:
    guests = Guests()
    calls = desk(guests, "call:*")
    run(calls)  # the control
    with pytest.raises(Invalid):
        run(calls, app, handler)
    assert len(guests.called) == 1


def test_a_handler_that_is_not_there_is_told(desk: Callable[..., Desk]) -> None:
    with pytest.raises(NotFound, match="did you mean 'latest'"):
        run(desk(Guests()), handler="latst")


@pytest.mark.parametrize(
    "arguments", [{"x": bytes(MAX_ARGUMENTS + 1)}, {"x": [None] * 300_000}, [1], {"x": {1: [[]] * 300_000}}]
)
def test_arguments_are_bounded(desk: Callable[..., Desk], arguments: Any) -> None:
    guests = Guests()
    run(desk(guests), arguments={"x": bytes(MAX_ARGUMENTS - 100)})  # the control
    with pytest.raises(Invalid):
        run(desk(guests), arguments=arguments)
    assert len(guests.called) == 1


def test_circles_are_refused_before_anything_runs(desk: Callable[..., Desk], tmp_path: Path) -> None:
    guests = Guests()
    place = str(tmp_path / "apps" / "prices" / "app.toml")
    begun = Journey(stops=(Stop("notebook", "/n"), Stop("prices", place), Stop("rates", "/r")))
    with pytest.raises(Conflict, match="notebook → prices → rates → prices"):
        run(desk(guests, journey=begun))
    assert guests.called == []


@pytest.mark.parametrize("timeout", [0, -1, 601.0, float("nan"), "5"])
def test_a_timeout_is_a_time(desk: Callable[..., Desk], timeout: Any) -> None:
    with pytest.raises(Invalid):
        run(desk(Guests()), timeout=timeout)


def test_a_handler_that_does_not_answer_is_ended(desk: Callable[..., Desk]) -> None:
    ended = []

    async def silent(called: Called) -> Answered:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(called.entry.name)
        raise AssertionError

    with pytest.raises(OutsideFailed, match=r"prices\.latest did not answer within 1 s"):
        run(desk(silent), timeout=1.0)  # by then it is begun: the decision has been written down
    assert ended == ["prices.latest"]


def test_some_run_at_a_time_and_the_others_wait_within_their_deadlines(desk: Callable[..., Desk]) -> None:
    async def test() -> None:
        go, running = asyncio.Event(), []

        async def held(called: Called) -> Answered:
            running.append(called)
            await go.wait()
            return Answered(replied(1), Disclosed())

        calls = desk(held)
        begun = [
            asyncio.ensure_future(calls("run", app="prices", handler="latest", timeout=500.0))
            for _ in range(MOST_AT_ONCE)
        ]
        while len(running) < MOST_AT_ONCE:
            await asyncio.sleep(0)
        with pytest.raises(OutsideFailed):
            await calls("run", app="prices", handler="latest", timeout=0.05)
        assert len(running) == MOST_AT_ONCE
        go.set()
        assert [done.value for done in await asyncio.gather(*begun)] == [1] * MOST_AT_ONCE
        await calls("run", app="prices", handler="latest")  # the control: its turn comes again

    asyncio.run(test())


HOSTILE = {
    "nothing": b"",
    "no map": packed.pack([1]),
    "another map": packed.pack({"valeu": b"\xc0"}),
    "keys that are no names": packed.pack({1: 2}),
    "a value that is not packed": packed.pack({"value": 5}),
    "garbage within": packed.pack({"value": b"\xc1"}),
    "a bomb within": packed.pack({"value": b"\xdd\xff\xff\xff\xff"}),
    "an extension within": packed.pack({"value": msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"x"))}),
    "much within": packed.pack({"value": msgspec.msgpack.encode([None] * 300_000)}),
    "deep within": packed.pack({"value": b"\x91" * 1000 + b"\xc0"}),
    "too large": msgspec.msgpack.encode({"value": bytes(MAX_REPLY + 1)}),
    "another fault": packed.pack({"fault": "host", "text": "x"}),
    "a long text": packed.pack({"fault": "app", "text": "x" * 100_000}),
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x93",
}


@pytest.mark.parametrize("reply", HOSTILE.values(), ids=HOSTILE)
def test_a_reply_that_is_none_is_the_apps_fault(desk: Callable[..., Desk], reply: bytes) -> None:
    assert run(desk(Guests())) == {"price": 9.5}  # the control
    with pytest.raises(CallFailed, match=r"prices\.latest answered what is none") as caught:
        guests = Guests()
        guests.reply = reply
        run(desk(guests))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(("fault", "kind"), [("caller", Invalid), ("app", CallFailed)])
def test_faults_are_told_apart(desk: Callable[..., Desk], fault: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^prices\.latest: no such metal$"):
        run(desk(Guests(replied(fault=fault, text="no such metal"))))


def test_secrets_of_the_called_app_stay_with_it(desk: Callable[..., Desk]) -> None:
    disclosed = Disclosed()
    value = {"a": ["it is tok-12345678", b"tok-12345678"], "tok-12345678": 5}
    assert run(desk(Guests(replied(value)))) == value  # the control: not given to that app
    disclosed.add("pin", b"tok-12345678")
    found = run(desk(Guests(replied(value), disclosed)))
    assert "12345678" not in repr(found)
    assert found["a"][0] == "it is [secret pin]"
    with pytest.raises(CallFailed, match=r"with \[secret pin\]"):
        run(desk(Guests(replied(fault="app", text="with tok-12345678"), disclosed)))


def test_numbers_that_are_a_secret_are_taken_out_of_answers_too(desk: Callable[..., Desk]) -> None:
    disclosed = Disclosed()
    disclosed.add("pin", b"48151623")
    found = run(desk(Guests(replied({"n": [48151623, 4815162, 1.5, True, None]}), disclosed)))
    assert found == {"n": ["[secret pin]", 4815162, 1.5, True, None]}


PASSED = {
    "as it is": {"key": "tok-12345678"},
    "within a text": {"key": ["Bearer tok-12345678"]},
    "as bytes": {"key": {"x": b"tok-12345678"}},
    "in UTF-16": {"key": "tok-12345678".encode("utf-16-le")},
    "in base64": {"key": base64.b64encode(b"tok-12345678").decode()},
    "as a name": {"tok-12345678": 1},
}


@pytest.mark.parametrize("arguments", PASSED.values(), ids=PASSED)
def test_a_secret_that_is_passed_is_one_of_the_called_apps_guest(
    desk: Callable[..., Desk], arguments: dict[str, Any]
) -> None:
    disclosed, guests = Disclosed(), Guests()
    disclosed.add("token", b"tok-12345678")
    disclosed.add("pin", b"48151623")
    calls = desk(guests, disclosed=disclosed)
    run(calls, arguments=arguments)
    run(calls, arguments={"key": 48151623})
    run(calls, arguments={"key": "nothing"})  # the control: it is told nothing, so it knows nothing
    said = "tok-12345678 48151623"
    assert [called.passed.text(said) for called in guests.called] == [
        "[secret token] 48151623",
        "tok-12345678 [secret pin]",
        said,
    ]

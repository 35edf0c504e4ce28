"""Output that a widget has captured: seen by what the guest says, and its cell's reply waits a moment."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from kernel_runtime import wire
from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.domain.level import Level
from kernel_runtime.jupyter import cells, runner
from kernel_runtime.jupyter.messages import Message, Scribe
from kernel_runtime.jupyter.policy import Gate
from kernel_runtime.jupyter.relay import Desk, Relay
from kernel_runtime.jupyter.settings import Settings
from tests.jupyter.panels.boards import stage

MODEL = "output"
#: What ipywidgets sends when an output widget is made: it captures nothing yet.
STATE = {
    "_model_module": "@jupyter-widgets/output",
    "_model_module_version": "1.0.0",
    "_model_name": "OutputModel",
    "_view_module": "@jupyter-widgets/output",
    "_view_module_version": "1.0.0",
    "_view_name": "OutputView",
    "msg_id": "",
    "outputs": [],
}


class Anything:
    """A gate that lets all pass: what the relay itself makes of it."""

    def admit(self, kind: str, content: Any, buffers: list[bytes], target: str | None = None) -> Any:
        return content


class Silence:
    """Prompts of nobody."""

    def withdraw(self, request: str) -> None:
        pass


def desk(gate: Any = None) -> tuple[Desk, Any]:
    board, ear, comms = stage()
    sources = SimpleNamespace(logs=SimpleNamespace(stream=lambda *_: None, record=lambda *_: None))
    made = Desk(ear, comms, Silence(), gate or Gate(Level.MODERATE), 10_000, board, sources)  # stand-ins
    return made, ear


def request(code: str = "pass") -> Message:
    scribe = Scribe(b"key", "hmac-sha256")
    content = {"code": code, "allow_stdin": False, "silent": False, "store_history": False}
    return scribe.read([b"client", *scribe.write("execute_request", json.dumps(content).encode(), b"{}")])


def says(kind: str, **content: Any) -> wire.Publish:
    return wire.Publish(parent="r", kind=kind, content=json.dumps({"comm_id": MODEL, **content}).encode())


def opened(state: Any) -> wire.Publish:
    return says("comm_open", target_name="jupyter.widget", data={"state": state})


def updated(state: Any) -> wire.Publish:
    return says("comm_msg", data={"method": "update", "state": state})


def test_an_output_widget_that_takes_a_requests_output_has_captured() -> None:
    made, ear = desk()
    relay = Relay(made, request())
    relay(opened(STATE))
    assert not relay.captured, "a widget that is only made has captured nothing"
    relay(updated({"outputs": []}))
    assert not relay.captured
    relay(updated({"msg_id": "r"}))
    assert relay.captured
    relay(updated({"outputs": []}))
    assert relay.captured, "it stays so until the request is over"
    assert ear.kinds() == ["comm_open", "comm_msg", "comm_msg", "comm_msg"]


def test_it_is_this_request_whose_reply_waits() -> None:
    made, _ = desk()
    first, second = Relay(made, request()), Relay(made, request())
    first(opened(STATE))
    first(updated({"msg_id": "r"}))
    assert first.captured
    assert not second.captured


@pytest.mark.parametrize("state", [["msg_id"], "msg_id", 7, None, True, {}, {"msg-id": "r"}])
@pytest.mark.parametrize("gate", [Gate(Level.MODERATE), Anything()])
def test_a_state_that_is_none_has_captured_nothing(gate: Any, state: Any) -> None:
    relay = Relay(desk(gate)[0], request())
    relay(opened(STATE))
    try:
        relay(updated(state))
    except ProtocolViolation:
        assert isinstance(gate, Gate)  # which may end a guest for it
    assert not relay.captured


@pytest.mark.parametrize(
    "content", [{}, {"data": {}}, {"data": {"msg_id": "r"}}, {"data": {"states": {"msg_id": 1}}}]
)
@pytest.mark.parametrize("kind", ["comm_msg", "comm_close"])
def test_a_message_without_a_state_has_captured_nothing(kind: str, content: dict[str, Any]) -> None:
    relay = Relay(desk(Anything())[0], request())
    relay(opened(STATE))
    relay(says(kind, **content))
    assert not relay.captured


# -- the reply of the cell ---------------------------------------------------------------------------


class Guest:
    """A guest whose cell sends ``frames`` and ends well."""

    walls: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    session = None

    def __init__(self, *frames: wire.FromGuest) -> None:
        self._frames = frames

    async def ready(self) -> Any:
        return self

    async def submit(self, asked: wire.Request, sink: Any) -> None:
        for frame in self._frames:
            sink(frame)
        reply = {"status": "ok", "execution_count": 1, "user_expressions": {}, "payload": []}
        sink(wire.Reply(parent=asked.id, kind="execute_reply", content=json.dumps(reply).encode()))


class Sleep:
    """Instead of ``asyncio.sleep``: over when it is told to be."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.over.wait()


async def served(monkeypatch: pytest.MonkeyPatch, *frames: wire.FromGuest) -> tuple[Sleep, list[Any], Any]:
    """A line that serves one such cell: its sleep, its replies, and what ends it."""
    sleep, replies = Sleep(), list[Any]()
    monkeypatch.setattr(runner.asyncio, "sleep", sleep)
    line = cells.Cells(
        Guest(*frames),  # what a cell needs of it
        desk()[0],
        Settings(),
        SimpleNamespace(add=lambda *_: None, write=lambda: None),  # remembers nothing
        lambda message, content, metadata: replies.append(content),
        lambda: None,
    )
    line.put(request())
    return sleep, replies, asyncio.ensure_future(line.serve())


async def until(serving: Any, done: Any) -> None:
    """Turns of the loop; the line's own error rather than none."""
    loop = asyncio.get_running_loop()
    for _ in range(1000):
        if done():
            return
        assert not serving.done(), serving
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn
    raise AssertionError("it has not come")


async def end(serving: asyncio.Task[None]) -> None:
    serving.cancel()
    await asyncio.wait([serving])


def test_a_reply_after_captured_output_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        sleep, replies, serving = await served(monkeypatch, opened(STATE), updated({"msg_id": "r"}))
        await until(serving, lambda: sleep.asked)
        assert (sleep.asked, replies) == ([runner.CAPTURED_SECONDS], [])
        sleep.over.set()
        await until(serving, lambda: replies)
        assert [reply.status for reply in replies] == ["ok"]
        await end(serving)

    asyncio.run(test())


def test_a_reply_after_other_output_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        sleep, replies, serving = await served(monkeypatch, opened(STATE))
        await until(serving, lambda: replies)
        assert (sleep.asked, [reply.status for reply in replies]) == ([], ["ok"])
        await end(serving)

    asyncio.run(test())


def test_words_of_the_fronts_own_are_a_stream_with_text() -> None:
    made, ear = desk()
    made.note("something to know", b"{}")
    [out] = ear.heard
    assert (out.kind, out.name, "".join(out.texts)) == (
        "stream",
        "stderr",
        "[kernel_runtime: something to know]\n",
    )
    with pytest.raises(ValueError, match="stream"):
        made.publish("stream", {"name": "stderr", "text": "lost"}, b"{}")

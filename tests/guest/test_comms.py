"""Comms both ways, and the widgets that are built of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire

if TYPE_CHECKING:
    from tests.guest.conftest import Host, Outcome


def opened(outcome: Outcome) -> dict[str, str]:
    """comm_id by widget model name."""
    return {c["data"]["state"]["_model_name"]: c["comm_id"] for c in outcome.published("comm_open")}


def tell(host: Host, comm_id: str, state: dict[str, Any]) -> Outcome:
    data = {"method": "update", "state": state, "buffer_paths": []}
    return host.finish(host.request("comm_msg", {"comm_id": comm_id, "data": data}))


def test_comm_from_the_guest(shared: Host) -> None:
    outcome = shared.run(
        "from comm import create_comm\nc = create_comm('target', data={'a': 1}, buffers=[b'xy'])\n"
        "c.on_msg(lambda m: c.send({'echo': m['content']['data']}, buffers=m['buffers']))"
    )
    (frame,) = [f for f in outcome.frames if isinstance(f, wire.Publish)]
    assert frame.kind == "comm_open"
    assert frame.buffers == [b"xy"]
    comm_id = json.loads(frame.content)["comm_id"]
    name = shared.request("comm_msg", {"comm_id": comm_id, "data": 5}, buffers=[b"zz"])
    (echo,) = [f for f in shared.finish(name).frames if isinstance(f, wire.Publish)]
    assert (echo.kind, echo.parent, echo.buffers) == ("comm_msg", name, [b"zz"])
    assert json.loads(echo.content)["data"] == {"echo": 5}
    assert comm_id in shared.ask("comm_info_request")["comms"]
    assert shared.run("c.close()").published("comm_close")[0]["comm_id"] == comm_id
    assert comm_id not in shared.ask("comm_info_request")["comms"]


def test_comm_from_the_front(shared: Host) -> None:
    shared.run(
        "def opened(comm, msg):\n    comm.on_msg(lambda m: comm.send(m['content']['data'] * 2))\n"
        "    comm.on_close(lambda m: print('closed'))\n"
        "get_ipython().kernel.comm_manager.register_target('mine', opened)"
    )
    shared.finish(shared.request("comm_open", {"comm_id": "f1", "target_name": "mine", "data": {}}))
    outcome = shared.finish(shared.request("comm_msg", {"comm_id": "f1", "data": 4}))
    assert outcome.published("comm_msg") == [{"data": 8, "comm_id": "f1"}]
    outcome = shared.finish(shared.request("comm_close", {"comm_id": "f1", "data": {}}))
    assert outcome.text() == "closed\n"


def test_unknown_target_is_closed(shared: Host) -> None:
    outcome = shared.finish(shared.request("comm_open", {"comm_id": "f2", "target_name": "none", "data": {}}))
    assert outcome.published("comm_close")[0]["comm_id"] == "f2"


def test_slider_with_callback(shared: Host) -> None:
    outcome = shared.run(
        "import ipywidgets as w\ns = w.IntSlider(value=3)\n"
        "s.observe(lambda c: print('now', c['new']), 'value')\ns",
        timeout=60,
    )
    assert "application/vnd.jupyter.widget-view+json" in outcome.published("execute_result")[0]["data"]
    told = tell(shared, opened(outcome)["IntSliderModel"], {"value": 7})
    assert told.text() == "now 7\n"
    assert shared.run("s.value").result == "7"


def test_interact(shared: Host) -> None:
    outcome = shared.run(
        "from ipywidgets import interact\n@interact(x=(0, 10))\ndef f(x=2): print('x is', x)", timeout=60
    )
    assert any("x is 2" in json.dumps(m) for m in outcome.published()) or "x is 2" in outcome.text()
    told = tell(shared, opened(outcome)["IntSliderModel"], {"value": 9})
    assert "x is 9" in told.text() + json.dumps(told.published())


def test_output_widget_captures_by_parent(shared: Host) -> None:
    name = shared.start("import ipywidgets as w\nout = w.Output()\nwith out: print('caught')", count=1)
    outcome = shared.finish(name, 60)
    states = [m["data"]["state"].get("msg_id") for m in outcome.published("comm_msg")]
    assert states == [f"msg-{name}", ""]
    assert outcome.text() == "caught\n"


def test_progress_bar(shared: Host) -> None:
    outcome = shared.run(
        "import ipywidgets as w\np = w.IntProgress(max=3); display(p)\nfor i in range(3): p.value = i + 1"
    )
    assert [m["data"]["state"]["value"] for m in outcome.published("comm_msg")] == [1, 2, 3]


def test_comm_messages_are_handled_while_a_cell_awaits(shared: Host) -> None:
    outcome = shared.run(
        "import asyncio, ipywidgets as w\nb = w.IntText()\nwaiting = asyncio.Event()\n"
        "b.observe(lambda c: waiting.set(), 'value')"
    )
    comm_id = opened(outcome)["IntTextModel"]
    name = shared.start("await waiting.wait()\nprint('after')\nb.value")
    beside = tell(shared, comm_id, {"value": 42})
    assert beside.frames[-1].parent != name
    finished = shared.finish(name)
    assert finished.result == "42"
    assert finished.text() == "after\n"


def test_error_in_a_callback_ends_nothing(shared: Host) -> None:
    outcome = shared.run("import ipywidgets as w\ne = w.IntText()\ne.observe(lambda c: 1/0, 'value')")
    told = tell(shared, opened(outcome)["IntTextModel"], {"value": 1})
    assert "ZeroDivisionError" in told.text("stderr") + json.dumps(told.published())
    assert shared.run("1 + 1").result == "2"

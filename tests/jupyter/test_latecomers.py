"""Clients that come while a cell runs: the guest's widgets and the front's panels, told by the front."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
from jupyter_client.blocking.client import BlockingKernelClient

from kernel_runtime import wire
from kernel_runtime.domain.level import Level
from kernel_runtime.jupyter.latecomers import Latecomers
from kernel_runtime.jupyter.messages import Header, Message
from kernel_runtime.jupyter.policy import CONTROL_TARGET, WIDGET_TARGET, Gate
from kernel_runtime.jupyter.relay import Desk, Relay
from kernel_runtime.jupyter.requests import Comm
from tests.jupyter.kernels import PATIENCE, REAL, Kernel, running
from tests.jupyter.models import state_of
from tests.jupyter.panels.boards import stage

if TYPE_CHECKING:
    from kernel_runtime.jupyter.comms import Comms

ASKS = {"method": "request_states"}


class Front:
    """What of a front deals with comms, and a guest that may be busy."""

    def __init__(self) -> None:
        board, self.ear, self.comms = stage()
        self.busy = True
        self.gate = Gate(Level.MODERATE, others=self.comms.of_front)
        self.desk = Desk(self.ear, self.comms, None, self.gate, 10_000, board, None)  # what a relay needs
        self.late = Latecomers(self.ear, self.comms, self.gate, board, lambda: self.busy)

    def guest_says(
        self, kind: str, comm_id: str, data: Any = None, buffers: list[bytes] | None = None
    ) -> None:
        content = {"comm_id": comm_id, "data": data or {}}
        if kind == "comm_open":
            content["target_name"] = WIDGET_TARGET
        frame = wire.Publish(
            parent="r", kind=kind, content=json.dumps(content).encode(), buffers=buffers or []
        )
        Relay(self.desk, message("execute_request"))(frame)

    def guest_opens(self, comm_id: str, name: str = "Text", **values: Any) -> None:
        self.guest_says("comm_open", comm_id, {"state": state_of(name, **values), "buffer_paths": []})

    def guest_changes(self, comm_id: str, **state: Any) -> None:
        self.guest_says("comm_msg", comm_id, {"method": "update", "state": state, "buffer_paths": []})

    def client_says(self, kind: str, comm_id: str, data: Any = None, target: str = "") -> bool:
        return self.late.answer(
            message(kind, "asks"), Comm(comm_id=comm_id, target_name=target, data=data or {})
        )

    def come(self) -> dict[str, Any]:
        """A client opens the control comm and asks: the states that it gets."""
        assert self.client_says("comm_open", "ctl", target=CONTROL_TARGET)
        self.ear.heard.clear()
        assert self.client_says("comm_msg", "ctl", ASKS)
        (answer,) = self.ear.contents("comm_msg")
        assert answer["data"]["method"] == "update_states"
        assert self.client_says("comm_close", "ctl")
        return dict(answer["data"]["states"])


def message(kind: str, msg_id: str = "cell") -> Message:
    raw = msgspec.json.encode({"msg_id": msg_id})
    return Message(
        identities=[], header=Header(msg_id=msg_id, msg_type=kind), raw=raw, metadata=b"{}", content=b"{}"
    )


def comms_of(comms: Comms) -> set[str]:
    return set(comms.info(WIDGET_TARGET))


def test_while_the_guest_is_busy_its_widgets_are_told_as_they_were_last():
    front = Front()
    front.guest_opens("t", value="first", description="d")
    front.guest_opens("gone")
    front.guest_changes("t", value="second")
    front.guest_says("comm_close", "gone")
    states = front.come()
    assert set(states) == comms_of(front.comms) == {"t"}
    assert states["t"]["state"]["value"] == "second"
    assert states["t"]["state"]["description"] == "d"
    assert states["t"]["model_name"] == "TextModel"
    assert front.ear.heard[0].parent == b'{"msg_id":"asks"}'


def test_what_the_page_has_told_a_busy_guest_stands_in_the_page():
    front = Front()
    front.guest_opens("t", value="old")
    state = {"value": "typed by a person"}
    front.gate.heard("comm_msg", "t", {"method": "update", "state": state}, [])
    assert front.come()["t"]["state"]["value"] == "typed by a person"
    front.gate.heard("comm_close", "t", {}, [])
    assert front.come() == {}


def test_a_guest_that_is_not_busy_answers_for_itself():
    front = Front()
    front.busy = False
    front.guest_opens("t")
    assert not front.client_says("comm_open", "ctl", target=CONTROL_TARGET)
    assert not front.client_says("comm_msg", "t", {"method": "request_state"})


def test_a_guest_without_widgets_is_not_asked():
    front = Front()
    front.busy = False
    assert front.come() == {}


def test_one_model_is_told_to_clients_that_ask_for_each():
    front = Front()
    front.guest_opens("t", value="v")
    front.guest_says(
        "comm_open",
        "i",
        {"state": state_of("Image", format="png"), "buffer_paths": [["value"]]},
        [b"\x89PNG"],
    )
    front.ear.heard.clear()
    assert front.client_says("comm_msg", "t", {"method": "request_state"})
    assert front.client_says("comm_msg", "i", {"method": "request_state"})
    text, image = front.ear.contents("comm_msg")
    assert (text["comm_id"], text["data"]["state"]["value"]) == ("t", "v")
    assert image["data"]["buffer_paths"] == [["value"]]
    assert front.ear.heard[1].buffers == [b"\x89PNG"]
    assert not front.client_says("comm_msg", "unknown", {"method": "request_state"})
    assert not front.client_says("comm_msg", "t", {"method": "update", "state": {"value": "w"}})


def test_what_is_not_whole_is_not_told():
    front = Front()
    front.guest_opens("t")
    front.desk.guest_died()
    front.guest_opens("u")
    assert not front.client_says("comm_open", "ctl", target=CONTROL_TARGET)
    front.busy = False
    assert not front.client_says("comm_open", "ctl", target=CONTROL_TARGET)


def test_widgets_that_live_on_in_a_snapshot_are_back_when_it_has_told_them():
    front = Front()
    front.guest_opens("t")
    front.desk.guest_died()
    assert comms_of(front.comms) == set()
    front.comms.note_client("comm_open", Comm(comm_id="ctl", target_name=CONTROL_TARGET))
    told = {"method": "update_states", "states": {"t": {"state": state_of("Text", value="v")}}}
    front.guest_says("comm_msg", "ctl", told)
    assert comms_of(front.comms) == {"t"}
    front.guest_changes("t", value="w")
    front.comms.note_client("comm_close", Comm(comm_id="ctl"))
    assert front.come()["t"]["state"]["value"] == "w"


def test_a_guest_cannot_answer_in_the_fronts_place():
    front = Front()
    front.guest_opens("t")
    assert front.client_says("comm_open", "ctl", target=CONTROL_TARGET)
    front.ear.heard.clear()
    lie = {"method": "update_states", "states": {"t": {"state": state_of("HTML", value="lie")}}}
    front.guest_says("comm_msg", "ctl", lie)
    front.guest_says("comm_close", "ctl")
    assert front.ear.heard == []
    assert front.client_says("comm_msg", "ctl", ASKS)


def test_an_id_that_is_the_guests_does_not_become_the_fronts():
    front = Front()
    front.guest_opens("t")
    assert not front.client_says("comm_open", "t", target=CONTROL_TARGET)


# -- a real guest --------------------------------------------------------------------------------------

CELL = """
import ipywidgets, time
slider = ipywidgets.IntSlider(value=3, description='mine')
out = ipywidgets.Output()
for slider.value in range(4, 8): pass
print('ready')
time.sleep(100_000)
"""


def _say(kernel: Kernel, kind: str, **content: Any) -> str:
    sent = kernel.kc.session.msg(kind, content, metadata={"version": "1.0.0"})
    kernel.kc.shell_channel.send(sent)
    return str(sent["header"]["msg_id"])


def test_a_second_client_gets_the_widgets_of_a_real_guest_while_a_cell_runs():
    with running(REAL, env={"KERNEL_RUNTIME_WARM": "0"}) as kernel:
        cell = kernel.begin(CELL)
        second = BlockingKernelClient()
        second.load_connection_info(kernel.km.get_connection_info())
        second.start_channels()
        try:
            second.wait_for_ready(
                timeout=PATIENCE
            )  # its subscription has arrived: nothing is published past it
            late = Kernel(kernel.km, second)
            known = late.ask("shell", "comm_info_request", {"target_name": WIDGET_TARGET})["comms"]
            _say(late, "comm_open", comm_id="ctl", target_name=CONTROL_TARGET, data={})
            answer = late.until(_say(late, "comm_msg", comm_id="ctl", data=ASKS), "comm_msg")
            states = answer["content"]["data"]["states"]
            assert set(states) == set(known)
            (slider,) = [one for one in states.values() if one["model_name"] == "IntSliderModel"]
            assert (slider["state"]["value"], slider["state"]["description"]) == (7, "mine")
            assert slider["state"]["layout"].removeprefix("IPY_MODEL_") in states
        finally:
            second.stop_channels()
        kernel.km.interrupt_kernel()
        assert kernel.finish(cell)[0]["content"]["ename"] == "KeyboardInterrupt", "it still ran"
        _say(kernel, "comm_open", comm_id="c2", target_name=CONTROL_TARGET, data={})
        own = kernel.until(_say(kernel, "comm_msg", comm_id="c2", data=ASKS), "comm_msg")
        assert own["content"]["data"] == answer["content"]["data"], "the guest says the same when it can"

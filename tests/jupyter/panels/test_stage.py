"""The stage: widgets without an IPython shell, for clients that stay, come later or go."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.level import Level
from kernel_runtime.jupyter.latecomers import Latecomers
from kernel_runtime.jupyter.messages import Header, Message
from kernel_runtime.jupyter.policy import CONTROL_TARGET, WIDGET_TARGET, Gate
from kernel_runtime.jupyter.requests import Comm
from tests.jupyter.panels.boards import stage

if TYPE_CHECKING:
    from kernel_runtime.jupyter.panels.stage import Stage

VIEW = "application/vnd.jupyter.widget-view+json"
CELL = b'{"msg_id":"cell"}'


class Light:
    """A panel with one button that counts."""

    def __init__(self) -> None:
        import ipywidgets

        self.presses = 0
        self.closed = False
        self.button = ipywidgets.Button(description="press")
        self.button.on_click(lambda _: self._pressed())
        self.root = ipywidgets.VBox([self.button])

    def _pressed(self) -> None:
        self.presses += 1
        self.button.description = f"pressed {self.presses}"

    async def look(self) -> None: ...

    def still(self) -> tuple[str, str]:
        return "plain", "<b>html</b>"

    def close(self) -> None:
        self.closed = True


def say(
    kind: str, comm_id: str, data: Any, *, msg_id: str = "click", target: str = ""
) -> tuple[Message, Comm]:
    """A client's comm message."""
    content = {"comm_id": comm_id, "target_name": target, "data": data}
    raw = msgspec.json.encode({"msg_id": msg_id})
    header = Header(msg_id=msg_id, msg_type=kind)
    message = Message(
        identities=[], header=header, raw=raw, metadata=b"{}", content=msgspec.json.encode(content)
    )
    return message, Comm(comm_id=comm_id, target_name=target, data=data)


def press(place: Stage, panel: Light) -> None:
    data = {"method": "custom", "content": {"event": "click"}}
    place.receive(*say("comm_msg", panel.button.model_id, data))


def test_a_panel_opens_in_its_cells_name():
    async def story():
        place, ear, comms = stage()
        bundle = await place.show("light", Light, CELL)
        assert bundle["text/plain"] == "plain"
        assert bundle["text/html"] == "<b>html</b>"
        model = bundle[VIEW]["model_id"]
        opened = ear.contents("comm_open")
        assert opened[-1]["comm_id"] == model, "the box opens after what it holds"
        assert {each["target_name"] for each in opened} == {WIDGET_TARGET}
        assert all(out.parent == CELL for out in ear.heard)
        assert all(msgspec.json.decode(out.metadata)["version"].startswith("2.") for out in ear.heard)
        assert {each["comm_id"] for each in opened} == set(comms.info(WIDGET_TARGET))

    asyncio.run(story())


def test_a_click_is_answered_in_the_clicks_name():
    async def story():
        place, ear, _ = stage()
        panels: list[Light] = []
        await place.show("light", lambda: keep(panels, Light()), CELL)
        panel = panels[0]
        ear.heard.clear()
        press(place, panel)
        assert panel.presses == 1
        (told,) = ear.contents("comm_msg")
        assert told["data"]["state"] == {"description": "pressed 1"}
        assert msgspec.json.decode(ear.heard[0].parent)["msg_id"] == "click"

    asyncio.run(story())


def keep(panels: list[Light], panel: Light) -> Light:
    panels.append(panel)
    return panel


def test_shown_again_it_is_the_same_panel_with_its_state_said_again():
    async def story():
        place, ear, _ = stage()
        panels: list[Light] = []
        first = await place.show("light", lambda: keep(panels, Light()), CELL)
        press(place, panels[0])
        ear.heard.clear()
        again = await place.show("light", lambda: keep(panels, Light()), b'{"msg_id":"second"}')
        assert again[VIEW] == first[VIEW]
        assert len(panels) == 1
        states = {each["comm_id"]: each["data"]["state"] for each in ear.contents("comm_msg")}
        assert states[panels[0].button.model_id]["description"] == "pressed 1"
        assert {bytes(out.parent) for out in ear.heard} == {b'{"msg_id":"second"}'}

    asyncio.run(story())


def late(place: Stage, ear: Any, comms: Any, *, busy: bool = False) -> Latecomers:
    return Latecomers(ear, comms, Gate(Level.MODERATE, others=comms.of_front), place, lambda: busy)


def test_a_client_that_comes_later_gets_every_model():
    async def story():
        place, ear, comms = stage()
        panels: list[Light] = []
        await place.show("light", lambda: keep(panels, Light()), CELL)
        clients = late(place, ear, comms)
        models = {each["comm_id"] for each in ear.contents("comm_open")}
        ear.heard.clear()
        assert clients.answer(*say("comm_open", "control", {}, target=CONTROL_TARGET))
        assert clients.answer(*say("comm_msg", "control", {"method": "request_states"}))
        (told,) = ear.contents("comm_msg")
        data = told["data"]
        assert data["method"] == "update_states"
        assert set(data["states"]) == models
        assert data["states"][panels[0].button.model_id]["model_name"] == "ButtonModel"
        assert data["states"][panels[0].root.model_id]["state"]["children"] == [
            f"IPY_MODEL_{panels[0].button.model_id}"
        ]

    asyncio.run(story())


def test_one_that_asks_for_a_single_model_is_answered_in_that_requests_name():
    async def story():
        place, ear, _ = stage()
        bundle = await place.show("light", Light, CELL)
        ear.heard.clear()
        place.receive(*say("comm_msg", bundle[VIEW]["model_id"], {"method": "request_state"}, msg_id="asks"))
        (told,) = ear.contents("comm_msg")
        assert told["data"]["state"]["_model_name"] == "VBoxModel"
        assert msgspec.json.decode(ear.heard[0].parent)["msg_id"] == "asks"

    asyncio.run(story())


def test_where_the_guest_has_widgets_it_is_asked_and_ours_are_added():
    async def story():
        place, ear, comms = stage()
        asks = say("comm_open", "control", {}, target=CONTROL_TARGET)
        bundle = await place.show("light", Light, CELL)
        comms.note_client("comm_open", Comm(comm_id="theirs", target_name=WIDGET_TARGET))
        assert not late(place, ear, comms).answer(*asks)
        answer = {"method": "update_states", "states": {"theirs": {}}, "buffer_paths": []}
        assert {"theirs", bundle[VIEW]["model_id"]} < set(place.add_states(answer)["states"])

    asyncio.run(story())


def test_panels_are_live_though_nobody_knows_what_has_become_of_the_guests_widgets():
    async def story():
        place, ear, comms = stage()
        asks = say("comm_open", "control", {}, target=CONTROL_TARGET)
        clients = late(place, ear, comms, busy=True)
        clients._gate.guest_died()
        assert not clients.answer(*asks), "without a panel it can wait"
        await place.show("light", Light, CELL)
        assert clients.answer(*asks)

    asyncio.run(story())


def test_a_panel_that_a_client_closes_is_made_anew():
    async def story():
        place, _, comms = stage()
        panels: list[Light] = []
        first = await place.show("light", lambda: keep(panels, Light()), CELL)
        place.receive(*say("comm_close", first[VIEW]["model_id"], {}))
        assert panels[0].closed
        assert not place.is_open
        assert not comms.info(WIDGET_TARGET)
        second = await place.show("light", lambda: keep(panels, Light()), CELL)
        assert second[VIEW] != first[VIEW]
        assert len(panels) == 2

    asyncio.run(story())


def test_a_malformed_message_of_a_client_changes_nothing(capsys):
    async def story():
        place, _, _ = stage()
        panels: list[Light] = []
        await place.show("light", lambda: keep(panels, Light()), CELL)
        for data in ({}, {"method": "update", "state": 3}, {"method": "custom", "content": []}):
            place.receive(*say("comm_msg", panels[0].button.model_id, data))
        press(place, panels[0])
        assert panels[0].presses == 1

    asyncio.run(story())


def test_nothing_is_said_once_the_front_ends():
    async def story():
        place, ear, _ = stage()
        panels: list[Light] = []
        await place.show("light", lambda: keep(panels, Light()), CELL)
        place.close()
        ear.heard.clear()
        panels[0].button.description = "too late"
        assert not ear.heard
        assert panels[0].closed

    asyncio.run(story())


IMPORTED = """
import asyncio, sys
from kernel_runtime.jupyter import front
from kernel_runtime.jupyter.panels import snapshots
assert not {"ipywidgets", "IPython", "ipykernel", "comm"} & set(sys.modules), "imported before a panel opens"
from kernel_runtime.jupyter.panels.stage import Stage
async def story():
    turns = 0
    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)
    task = asyncio.create_task(other())
    await Stage(None, None).open()
    task.cancel()
    print(turns)
asyncio.run(story())
assert "ipywidgets" in sys.modules and "ipykernel" not in sys.modules
"""


def test_ipywidgets_is_imported_with_the_first_panel_and_beside_the_loop():
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10, "the loop stood still while ipywidgets was imported"

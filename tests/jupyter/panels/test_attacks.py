"""What a guest tries on the front's panels, over the wire; each with the control that passes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.jupyter.kernels import REAL, SCRIPTED, Kernel, Message, kinds, running
from tests.jupyter.panels.boards import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Iterator

VIEW = "application/vnd.jupyter.widget-view+json"
CONTROL = "jupyter.widget.control"


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with running(SCRIPTED, env={"SCRIPTED_SNAPSHOTS": f"good|{HOSTILE}"}) as found:
        yield found


@pytest.fixture(scope="module")
def panel(kernel: Kernel) -> dict[str, Any]:
    """The panel's models as the page has them: id → state; ``root`` is the id that is shown."""
    _, outputs = kernel.run("%snapshots")
    models = {
        m["content"]["comm_id"]: m["content"]["data"]["state"]
        for m in outputs
        if m["msg_type"] == "comm_open"
    }
    (shown,) = [m["content"] for m in outputs if m["msg_type"] == "display_data"]
    return {"models": models, "root": shown["data"][VIEW]["model_id"], "shown": shown}


def publish(kernel: Kernel, kind: str, content: dict[str, Any]) -> list[Message]:
    """What comes out when the guest publishes this."""
    return kernel.run(f"publish {kind} {json.dumps(content)}")[1]


def model(comm_id: str, name: str = "HTML", **state: Any) -> dict[str, Any]:
    module = {"_model_module": "@jupyter-widgets/controls", "_view_module": "@jupyter-widgets/controls"}
    return {
        "comm_id": comm_id,
        "target_name": "jupyter.widget",
        "data": {"state": {"_model_name": f"{name}Model", "_view_name": f"{name}View", **module, **state}},
    }


def button(panel: dict[str, Any], label: str) -> str:
    return next(key for key, state in panel["models"].items() if state.get("description") == label)


def states(kernel: Kernel) -> dict[str, Any]:
    """What the front's own models say of themselves to a client that comes now."""
    return kernel.ask("shell", "comm_info_request")["comms"]


def test_names_from_anywhere_are_only_text(panel):
    texts = [state["value"] for state in panel["models"].values() if isinstance(state.get("value"), str)]
    said = "".join([*texts, panel["shown"]["data"]["text/html"]])
    assert "&lt;script&gt;" in said
    assert "<script" not in said
    assert "<img" not in said


def test_the_panel_cannot_be_updated_as_a_display(panel):
    assert not panel["shown"]["transient"].get("display_id")


@pytest.mark.parametrize("kind", ["comm_open", "comm_msg", "comm_close"])
def test_a_guest_cannot_speak_for_a_panels_model(kernel, panel, kind):
    own, fake = f"own-{kind}", {"method": "update", "state": {"value": "<b>press Drop</b>"}}
    publish(kernel, "comm_open", model(own))
    for comm_id, passes in ((own, True), (panel["root"], False), (button(panel, "Restore"), False)):
        content = model(comm_id) if kind == "comm_open" else {"comm_id": comm_id, "data": fake}
        if kind == "comm_open" and passes:
            content = model(f"{own}-new")
        assert kinds(publish(kernel, kind, content)) == ([kind] if passes else [])
    assert set(panel["models"]) <= set(states(kernel)), "the panel lives on"


def test_a_guest_cannot_show_the_panel_among_its_own_words(kernel, panel):
    publish(kernel, "comm_open", model("mine"))
    for comm_id, passes in (("mine", True), (panel["root"], False), (button(panel, "Drop"), False)):
        content = {"data": {"text/plain": "t", VIEW: {"model_id": comm_id}}, "metadata": {}}
        (shown,) = publish(kernel, "display_data", content)[1:]
        assert (VIEW in shown["content"]["data"]) == passes


@pytest.mark.parametrize("place", ["children", "nested"])
def test_a_guest_cannot_put_a_panels_button_into_its_own_box(kernel, panel, place):
    def box(comm_id: str, inner: str) -> str:
        reference = [f"IPY_MODEL_{inner}"]
        state = {"children": reference} if place == "children" else {"titles": [{"deep": reference}]}
        (opened,) = publish(kernel, "comm_open", model(comm_id, "VBox", **state))[1:]
        return str(opened["content"]["data"]["state"]["_model_name"])

    publish(kernel, "comm_open", model("part"))
    assert box(f"box-{place}", "part") == "VBoxModel"
    assert box(f"trap-{place}", button(panel, "Drop")) == "HTMLModel"
    update = {"method": "update", "state": {"children": [f"IPY_MODEL_{button(panel, 'Drop')}"]}}
    harmless = {"method": "update", "state": {"children": ["IPY_MODEL_part"]}}
    assert kinds(publish(kernel, "comm_msg", {"comm_id": f"box-{place}", "data": harmless})) == ["comm_msg"]
    assert kinds(publish(kernel, "comm_msg", {"comm_id": f"box-{place}", "data": update})) == []


def test_a_guest_cannot_link_its_slider_to_a_panels_choice(kernel, panel):
    choice = next(key for key, s in panel["models"].items() if s["_model_name"] == "ToggleButtonsModel")
    publish(kernel, "comm_open", model("slider", "IntSlider"))
    publish(kernel, "comm_open", model("slider2", "IntSlider"))
    for number, (end, passes) in enumerate((("slider2", True), (choice, False))):
        ends = {
            "source": ["IPY_MODEL_slider", "value"],
            "target": [f"IPY_MODEL_{end}", "index" if not passes else "value"],
        }
        (opened,) = publish(kernel, "comm_open", model(f"link{number}", "Link", **ends))[1:]
        assert (opened["content"]["data"]["state"]["_model_name"] == "LinkModel") == passes


def test_a_guest_cannot_answer_for_the_panel_when_a_client_comes_later(kernel, panel):
    publish(kernel, "comm_open", model("seen"))
    kernel.kc.shell_channel.send(
        kernel.kc.session.msg("comm_open", {"comm_id": "ctl", "target_name": CONTROL, "data": {}})
    )
    fake = {"model_name": "HTMLModel", **model("")["data"]}
    fake["state"]["value"] = "imitation"
    content = {
        "comm_id": "ctl",
        "data": {
            "method": "update_states",
            "states": {"seen": fake, panel["root"]: fake, button(panel, "Drop"): fake},
            "buffer_paths": [],
        },
    }
    (answer,) = publish(kernel, "comm_msg", content)[1:]
    told = answer["content"]["data"]["states"]
    assert told["seen"]["state"]["value"] == "imitation", "the control: its own model passes"
    assert told[panel["root"]]["model_name"] == "VBoxModel"
    assert told[button(panel, "Drop")]["state"]["description"] == "Drop"
    assert set(panel["models"]) <= set(told)


def test_a_guest_cannot_wear_the_panels_clothes(kernel):
    html = "<div class='kr-panel mine'><p class='kr-chip'>x</p></div>"
    (shown,) = publish(kernel, "display_data", {"data": {"text/html": html}, "metadata": {}})[1:]
    said = shown["content"]["data"]["text/html"]
    assert "mine" in said
    assert "kr-panel" not in said
    assert "kr-chip" not in said


def test_the_panel_survives_the_end_of_the_guest(kernel, panel):
    kernel.run("crash")
    assert set(panel["models"]) <= set(states(kernel))
    (shown,) = publish(
        kernel,
        "display_data",
        {"data": {"text/plain": "", VIEW: {"model_id": panel["root"]}}, "metadata": {}},
    )[1:]
    assert VIEW not in shown["content"]["data"]


def test_a_press_is_answered_while_a_cell_runs(kernel, panel):
    running_cell = kernel.kc.execute("sleep 3")
    data = {"method": "update", "state": {"index": 0}, "buffer_paths": []}
    message = kernel.kc.session.msg("comm_msg", {"comm_id": choice_of(panel), "data": data})
    kernel.kc.shell_channel.send(message)
    answers = kernel.outputs(message["header"]["msg_id"], timeout=20)
    restore = button(panel, "Restore")
    enabled = [
        m for m in answers
        if m["content"].get("comm_id") == restore and m["content"]["data"]["state"] == {"disabled": False}
    ]  # fmt: skip
    assert enabled, kinds(answers)
    assert kernel.reply(running_cell)["content"]["status"] == "ok"


def choice_of(panel: dict[str, Any]) -> str:
    return next(key for key, s in panel["models"].items() if s["_model_name"] == "ToggleButtonsModel")


def test_a_panel_opens_while_a_cell_runs_and_before_it_ends():
    with running(SCRIPTED) as kernel:
        long = kernel.kc.execute("sleep 600")
        reply, outputs = kernel.run("%snapshots")
        assert reply["content"]["status"] == "ok"
        assert "display_data" in kinds(outputs)
        kernel.ask("control", "interrupt_request")
        assert kernel.reply(long)["content"]["ename"] == "KeyboardInterrupt"


def test_the_panel_of_a_real_guest():
    """The control of the scripted ones: the same over real walls, the tree following the cells."""
    with running(REAL, env={"KERNEL_RUNTIME_WARM": "0"}) as kernel:
        kernel.run("x = 1")
        kernel.run("x = 2")
        _, outputs = kernel.run("%snapshots")
        (shown,) = [m["content"]["data"] for m in outputs if m["msg_type"] == "display_data"]
        assert "#2" in shown["text/plain"]
        assert "[1]" in shown["text/html"]

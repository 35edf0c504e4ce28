"""What a guest tries on the panels of resources, permissions and logs, and on the card that asks; over the
wire, each with the control that passes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.jupyter.kernels import SCRIPTED, Kernel, kinds, running, text_of
from tests.jupyter.panels.boards import HOSTILE
from tests.jupyter.persons import spoofs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VIEW = "application/vnd.jupyter.widget-view+json"
PANELS = ("%resources", "%permissions", "%logs", "%permissions suggest")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    place: Path = tmp_path_factory.mktemp("panels")
    env = {"KERNEL_RUNTIME_STATE": str(place / "state"), "XDG_CONFIG_HOME": str(place / "config")}
    with running(SCRIPTED, env={**env, "JPY_SESSION_NAME": f"{HOSTILE}.ipynb"}) as found:
        yield found


def opened(outputs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The models that came: id → state."""
    return {
        m["content"]["comm_id"]: m["content"]["data"]["state"]
        for m in outputs
        if m["msg_type"] == "comm_open"
    }


@pytest.fixture(scope="module")
def panels(kernel: Kernel) -> dict[str, Any]:
    """All panels as the page has them, after the guest has printed something hostile."""
    kernel.run(f"say {HOSTILE}\nerr {HOSTILE}")
    found: dict[str, Any] = {"models": {}, "shown": []}
    for magic in PANELS:
        reply, outputs = kernel.run(magic)
        assert reply["content"]["status"] == "ok", reply["content"]
        found["models"] |= opened(outputs)
        found["shown"] += [m["content"]["data"] for m in outputs if m["msg_type"] == "display_data"]
    return found


def test_each_has_a_live_and_a_still_form(panels):
    assert len(panels["shown"]) == len(PANELS)
    for shown in panels["shown"]:
        assert set(shown) == {"text/plain", "text/html", VIEW}
        assert shown[VIEW]["model_id"] in panels["models"]


def test_words_from_anywhere_are_only_text(panels):
    texts = [state["value"] for state in panels["models"].values() if isinstance(state.get("value"), str)]
    said = "".join([*texts, *(shown["text/html"] for shown in panels["shown"])])
    assert "&lt;script&gt;" in said
    assert "<script" not in said
    assert "<img" not in said


@pytest.mark.parametrize("label", ["Kill", "Revoke", "Write to the policy", "JSONL", "Allow this session"])
def test_a_guest_cannot_speak_for_a_button(kernel, panels, label):
    button = next(key for key, state in panels["models"].items() if state.get("description") == label)
    for kind, content in spoofs(button):
        assert kinds(kernel.run(f"publish {kind} {json.dumps(content)}")[1]) == [], kind
    own = f"own-{label.replace(' ', '-')}"
    passed = [
        kinds(kernel.run(f"publish {kind} {json.dumps(content)}")[1])
        for kind, content in sorted(spoofs(own), key=lambda each: "open" not in each[0])
    ]
    assert passed == [["comm_open"], [], ["comm_msg"], ["comm_close"]], (
        "the control: its own button is its own"
    )
    assert button in kernel.ask("shell", "comm_info_request")["comms"]


def test_a_line_among_other_magics_opens_it_as_well(kernel, panels):
    reply, outputs = kernel.run("%snapshots\n%resources")
    assert reply["content"]["status"] == "ok"
    shown = [m["content"]["data"] for m in outputs if m["msg_type"] == "display_data"]
    assert [VIEW in data for data in shown] == [False, True]


def test_a_panel_opens_while_a_cell_runs(kernel, panels):
    long = kernel.begin("say begun\nsleep 600")
    for magic in PANELS:
        assert "display_data" in kinds(kernel.run(magic)[1])
    kernel.ask("control", "interrupt_request")
    assert kernel.reply(long)["content"]["ename"] == "KeyboardInterrupt"


def press(kernel: Kernel, model: str) -> None:
    data = {"method": "custom", "content": {"event": "click"}}
    kernel.kc.shell_channel.send(kernel.kc.session.msg("comm_msg", {"comm_id": model, "data": data}))


def asking(kernel: Kernel, code: str) -> tuple[str, dict[str, Any]]:
    """A cell that asks and waits, and the card as the page has it."""
    cell = kernel.kc.execute(code, allow_stdin=True)
    models: dict[str, Any] = {}
    while True:
        message = kernel.kc.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != cell:
            continue
        models |= opened([message])
        if message["msg_type"] == "display_data":
            return cell, models
        assert message["msg_type"] in ("status", "execute_input", "comm_open", "comm_msg"), message


def test_a_guest_cannot_answer_the_card_and_the_person_can(kernel):
    cell, models = asking(kernel, "asks cache\npress\nanswered")
    buttons = {state["description"]: key for key, state in models.items() if "description" in state}
    press(kernel, buttons["Deny"])
    reply, outputs = kernel.finish(cell)
    assert reply["content"]["status"] == "ok"
    said = text_of(outputs)
    assert "open: True" in said, "the guest's presses have answered nothing"
    assert "answers: ['None']" in said, "the person's has"
    spoofed = [m for m in outputs if m["msg_type"] in ("comm_close", "comm_open")]
    assert not spoofed, "nothing of it reached the page"
    assert {m["content"]["data"].get("method") for m in outputs if m["msg_type"] == "comm_msg"} <= {"update"}


def test_a_client_that_cannot_ask_is_not_asked(kernel):
    """As nbclient and papermill: the answer is no, and no card stands in the notebook."""
    reply, outputs = kernel.run("asks_in_vain cache", allow_stdin=False)
    assert reply["content"]["status"] == "ok"
    assert "denied: cache: no rule speaks of it; nobody can be asked here" in text_of(outputs)
    assert "display_data" not in kinds(outputs)


def test_the_guests_own_words_cannot_wear_the_cards_clothes(kernel):
    html = "<div class='kr-panel kr-card mine'><p class='kr-what'>x</p></div>"
    body = json.dumps({"data": {"text/html": html}, "metadata": {}})
    (shown,) = [m for m in kernel.run(f"publish display_data {body}")[1] if m["msg_type"] == "display_data"]
    said = shown["content"]["data"]["text/html"]
    assert "mine" in said, "the control"
    assert "kr-card" not in said
    assert "kr-what" not in said

"""A guest's own call, and the person who is asked: by the card in a page, by nobody in a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from tests.journeys.kernels import OURS, started
from tests.jupyter.kernels import PATIENCE, Kernel, kinds, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASKS = "from kernel_runtime.sdk import cache\ncache.set('rates', 7)\nprint('kept', cache.get('rates'))"
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def own_state(tmp_path_factory: pytest.TempPathFactory, jupyter: dict[str, str]) -> Iterator[Path]:
    """Nothing was granted before; the kernel is one that a Jupyter server has started."""
    place = tmp_path_factory.mktemp("asking")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERNEL_RUNTIME_STATE", str(place / "state"))
        patch.setenv("XDG_CONFIG_HOME", str(place / "config"))
        patch.setenv("JPY_SESSION_NAME", str(place / "prices.ipynb"))
        yield place


@pytest.fixture(scope="module")
def kernel(own_state: Path) -> Iterator[Kernel]:
    with started(cwd=str(own_state)) as one:
        yield one


def card_under(kernel: Kernel, cell: str, asked: str) -> dict[str, dict[str, Any]]:
    """The models in the page, by id, once the cell's card stands there and its buttons can be pressed."""
    models: dict[str, dict[str, Any]] = {}
    shown: list[dict[str, Any]] = []
    while not shown or models[button(models, "This session")]["disabled"]:
        message = kernel.kc.get_iopub_msg(timeout=PATIENCE)
        content = message["content"]
        if message["msg_type"] == "comm_open":
            models[content["comm_id"]] = dict(content["data"]["state"])
        elif message["msg_type"] == "comm_msg":
            models[content["comm_id"]] |= content["data"]["state"]
        elif message["msg_type"] == "display_data":
            assert message["parent_header"]["msg_id"] == cell
            shown.append(content["data"])
    assert shown[0][VIEW]["model_id"] in models
    assert f"prices.ipynb wants {asked}" in shown[0]["text/plain"]
    return models


def button(models: dict[str, dict[str, Any]], label: str) -> str:
    (found,) = [key for key, state in models.items() if state.get("description") == label]
    return found


def press(kernel: Kernel, model: str) -> None:
    """As a page says it."""
    data = {"method": "custom", "content": {"event": "click"}}
    kernel.kc.shell_channel.send(kernel.kc.session.msg("comm_msg", {"comm_id": model, "data": data}))


def test_a_call_of_the_sdk_shows_the_card_and_its_button_lets_the_cell_go_on(kernel: Kernel) -> None:
    cell = kernel.kc.execute(ASKS, allow_stdin=True)
    press(kernel, button(card_under(kernel, cell, "cache"), "This session"))
    reply, outputs = kernel.finish(cell)
    assert reply["content"]["status"] == "ok", reply["content"]
    assert text_of(outputs) == "kept 7\n"
    reply, outputs = kernel.run(ASKS, allow_stdin=True)
    assert text_of(outputs) == "kept 7\n"
    assert "display_data" not in kinds(outputs), "for this session: nobody is asked again"


def test_the_cards_other_button_denies(kernel: Kernel) -> None:
    code = "from kernel_runtime.sdk import clock\nprint(clock.now())"
    cell = kernel.kc.execute(code, allow_stdin=True)
    press(kernel, button(card_under(kernel, cell, "clock"), "Deny"))
    reply, outputs = kernel.finish(cell)
    assert reply["content"]["ename"] == "CapabilityDenied"
    assert text_of(outputs) == ""


def test_a_run_without_a_page_is_denied_with_the_flag(own_state: Path) -> None:
    notebook = new_notebook(cells=[new_code_cell(ASKS)])
    place = {"metadata": {"path": str(own_state)}}
    NotebookClient(notebook, kernel_name=OURS, timeout=PATIENCE, resources=place, allow_errors=True).execute()
    (error,) = notebook.cells[0].outputs
    assert error["ename"] == "CapabilityDenied"
    assert "nobody can be asked here: --allow cache grants it" in error["evalue"]

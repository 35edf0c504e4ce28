"""The panels in a run without a browser: what the saved notebook holds, and that nobody is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook

from tests.journeys import asking_kernel

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

VIEW = "application/vnd.jupyter.widget-view+json"
STATES = "application/vnd.jupyter.widget-state+json"


def test_a_saved_notebook_has_each_panel_as_widget_html_and_text(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking_kernel.install(prefix)
    for name, value in (("KERNEL_RUNTIME_STATE", "state"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setenv("KERNEL_RUNTIME_WARM", "0")
    sources = ("print('said')\n# ask cache", "%resources", "%permissions", "%permissions suggest", "%logs")
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    NotebookClient(notebook, kernel_name=asking_kernel.NAME, timeout=120).execute()
    nbformat.validate(notebook)
    assert "cache: deny" in str(notebook.cells[0].outputs), "nobody is there to be asked"
    shown = [cell.outputs[0].data for cell in notebook.cells[1:]]
    for data, text in zip(shown, ("Memory", "asks    cache", 'allow = [\n  "cache"', "said"), strict=True):
        assert text in data["text/plain"]
        assert "kr-panel" in data["text/html"]
        assert notebook.metadata.widgets[STATES]["state"][data[VIEW]["model_id"]]["model_name"] == "VBoxModel"
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert "kr-gauges" in page

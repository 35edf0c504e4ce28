"""A run without a browser: what the saved notebook holds, and how it reads elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook

from tests.journeys import panel_kernel

if TYPE_CHECKING:
    from pathlib import Path

VIEW = "application/vnd.jupyter.widget-view+json"


def run(*sources: str) -> nbformat.NotebookNode:
    """The notebook after a run by nbclient."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    NotebookClient(notebook, kernel_name=panel_kernel.PATIENT, timeout=120).execute()
    nbformat.validate(notebook)
    return notebook


def test_a_saved_notebook_has_the_tree_as_widget_html_and_text(prefix: Path):
    panel_kernel.install(prefix)
    notebook = run("x = 1", "%snapshots", "x = 2", "%snapshots")
    shown = [notebook.cells[index].outputs[0].data for index in (1, 3)]
    for data, newest in zip(shown, ("#1", "#2"), strict=True):
        assert f"→ {newest} " in data["text/plain"]
        assert f'{newest}</span><i class="kr-chip kr-current">' in data["text/html"]
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert shown[0][VIEW]["model_id"] == shown[1][VIEW]["model_id"]
    assert states[shown[1][VIEW]["model_id"]]["model_name"] == "VBoxModel"
    pictures = [
        s["state"]["value"] for s in states.values() if str(s["state"].get("value")).startswith("<table")
    ]
    assert len(pictures) == 1
    assert "#2" in pictures[0], "the second showing is saved as it was then"
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert "kr-tree" in page

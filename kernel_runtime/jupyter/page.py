"""A notebook as one self-contained HTML page, through nbconvert.

The page may be opened next to whatever its reader is logged in to, and what is on it came
out of a guest: outputs and Markdown are sanitised, no script is on it, and a content security
policy keeps the browser from running or fetching anything that slipped through.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from jinja2 import DictLoader
from nbconvert import HTMLExporter

from kernel_runtime.jupyter.cleaning import clean_bundle, clean_html

if TYPE_CHECKING:
    from pathlib import Path

    from nbformat import NotebookNode

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"
_TEMPLATE = (
    "{% extends 'lab/index.html.j2' %}"
    "{% block html_head_js %}"
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    "{% endblock %}"
    "{% block html_head_js_mathjax %}{% endblock %}"
    "{% block html_head_js_mermaidjs %}{% endblock %}"
)


def render_page(notebook: NotebookNode, title: str, directory: Path) -> bytes:
    """UTF-8 HTML with everything in it. Pictures of Markdown cells are taken from ``directory``."""
    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"kernel_runtime.html.j2": _TEMPLATE})],
        template_file="kernel_runtime.html.j2",
        embed_images=True,
        sanitize_html=True,
    )
    exporter.register_filter("clean_html", clean_html)  # nbconvert's own drops table heads
    resources = {"metadata": {"name": title, "path": str(directory)}}
    body, _ = exporter.from_notebook_node(_cleaned(notebook), resources=resources)
    return str(body).encode("utf-8", "replace")


def _cleaned(notebook: NotebookNode) -> NotebookNode:
    """A copy with cleaned outputs and without widgets, which need a kernel."""
    cleaned = copy.deepcopy(notebook)
    cleaned.metadata.pop("widgets", None)
    for cell in cleaned.cells:
        for output in cell.get("outputs", ()):
            if "data" in output:
                output["data"] = clean_bundle(output["data"])
    return cleaned

"""A notebook as one self-contained HTML page, through nbconvert.

The page may be opened next to whatever its reader is logged in to, and what is on it came
out of a guest: outputs and Markdown pass the same rules as in our kernel, no script runs in the
page itself, and a content security policy keeps the browser from running or fetching anything that
slipped through. Scripts in frames go by their hash: in the page itself they stop at their first word.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

from jinja2 import DictLoader
from nbconvert import HTMLExporter

from kernel_runtime.jupyter.page_frame import hashes_of
from kernel_runtime.jupyter.page_hosts import QUIET
from kernel_runtime.jupyter.page_html import clean_html
from kernel_runtime.jupyter.page_widgets import clean_output

if TYPE_CHECKING:
    from pathlib import Path

    from nbformat import NotebookNode

_POLICY = (
    "default-src 'none'; img-src data: blob:; media-src data: blob:; style-src 'unsafe-inline'; "
    "font-src data: blob:; form-action 'none'; base-uri 'none'"
)
_MARK = "kernel-runtime-policy"
_TEMPLATE = (
    "{% extends 'lab/index.html.j2' %}"
    "{% block html_head_js %}"
    f'<meta http-equiv="Content-Security-Policy" content="{_MARK}">'
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
    exporter.register_filter("clean_html", _clean)  # nbconvert's own drops table heads
    resources = {"metadata": {"name": title, "path": str(directory)}}
    body, _ = exporter.from_notebook_node(_cleaned(notebook), resources=resources)
    page = str(body).replace(f'content="{_MARK}"', f'content="{_policy(str(body))}"', 1)
    return page.encode("utf-8", "replace")


def _clean(text: str) -> str:
    # nbconvert writes an empty script as one tag, in which HTML would lose all that follows
    return clean_html(re.sub(r"<script\b[^<>]*/>", "", str(text)))


def _policy(page: str) -> str:
    """The page's policy; frames inherit it, so it names the scripts that they may run."""
    hashes = [f"'{each}'" for each in hashes_of(page)]
    return f"{_POLICY}; script-src {' '.join(hashes)} 'unsafe-eval'" if hashes else _POLICY


def _cleaned(notebook: NotebookNode) -> NotebookNode:
    """A copy with cleaned outputs and without widgets, which need a kernel."""
    cleaned = copy.deepcopy(notebook)
    cleaned.metadata.pop("widgets", None)
    for cell in cleaned.cells:
        if "outputs" in cell:
            cell.outputs = [type(cleaned)(clean_output(each, QUIET)) for each in cell.outputs]
    return cleaned

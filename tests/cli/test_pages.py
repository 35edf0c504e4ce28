"""What a guest puts out is made fit for a page that is not its own."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import nbformat

from kernel_runtime.jupyter.page import render_page

if TYPE_CHECKING:
    from pathlib import Path

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_a_page_holds_its_pictures_and_no_script(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(PNG)
    (tmp_path.parent / "secret.png").write_bytes(PNG + b"secret")
    markdown = nbformat.v4.new_markdown_cell("# T <script>x()</script>\n![in](p.png) ![out](../secret.png)")
    code = nbformat.v4.new_code_cell("1")
    code.outputs = [
        nbformat.v4.new_output("display_data", data={"text/html": "<script>y()</script><i>i</i>"})
    ]
    page = render_page(nbformat.v4.new_notebook(cells=[markdown, code]), "title", tmp_path).decode()
    assert "<i>i</i>" in page
    assert "<script" not in page
    assert "cdnjs" not in page
    assert base64.b64encode(PNG).decode() in page
    assert base64.b64encode(PNG + b"secret").decode()[-12:] not in page
    assert "Content-Security-Policy" in page

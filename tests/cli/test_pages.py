"""What a guest puts out is made fit for a page that is not its own."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import nbformat
import pytest

from kernel_runtime.jupyter.cleaning import clean_bundle, clean_html
from kernel_runtime.jupyter.page import render_page

if TYPE_CHECKING:
    from pathlib import Path

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.mark.parametrize(
    ("html", "cleaned"),
    [
        ("<b onclick='x()'>a</b>", "<b>a</b>"),
        ("<script>x()</script>a<style>b{}</style>", "a"),
        ("<SCRIPT >x()</SCRIPT >a", "a"),
        ("<img src='https://leak/?q=1' onerror=x()>", "<img>"),
        ("<img src='data:image/png;base64,AAAA'>", '<img src="data:image/png;base64,AAAA">'),
        ("<img src='data:image/svg+xml,x'>", "<img>"),
        ("<a href='javascript:x()'>a</a>", "<a>a</a>"),
        ("<a href='https://example.org/'>a</a>", '<a href="https://example.org/">a</a>'),
        ("<iframe src='https://x/'></iframe><form><input></form>a", "a"),
        ("<div style='background:url(https://leak/);color:red'>a</div>", '<div style="color: red;">a</div>'),
        ("<svg><script>x()</script></svg><math><mtext>t</mtext></math>", "t"),
        (
            "<table><thead><tr><th>h</th></tr></thead></table>",
            "<table><thead><tr><th>h</th></tr></thead></table>",
        ),
    ],
)
def test_html(html: str, cleaned: str) -> None:
    assert clean_html(html).strip().replace("color:red", "color: red") == cleaned


def test_bundles() -> None:
    bundle = {"text/plain": "x", "application/javascript": "x()", "image/svg+xml": "<svg/>", "image/png": "AA",
              "text/markdown": "**a** <script>x()</script>"}  # fmt: skip
    cleaned = clean_bundle(bundle)
    assert set(cleaned) == {"text/plain", "image/png", "text/html"}
    assert "<strong>a</strong>" in cleaned["text/html"]
    assert "script" not in cleaned["text/html"]


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

"""Mime bundles of a guest, made fit for a page that is not the guest's own.

The page of a notebook stands next to a server that can open terminals: script in an output
would be the shortest way out, a remote image the shortest way to leak. Each mime type that
passes has its own check; any other is dropped. JupyterLab trusts what ran in this session and
inserts it raw, so everything is decided here, before it is signed.
"""

from __future__ import annotations

import binascii
import html
from typing import TYPE_CHECKING, Any

from kernel_runtime.jupyter import page_text
from kernel_runtime.jupyter.page_frame import MAX_BYTES as MAX_FRAME
from kernel_runtime.jupyter.page_frame import frame
from kernel_runtime.jupyter.page_hosts import QUIET, Page
from kernel_runtime.jupyter.page_html import NO_FRAMES, clean_html, clean_markdown
from kernel_runtime.jupyter.page_svg import Unreadable, clean_svg

if TYPE_CHECKING:
    from collections.abc import Callable, Container

#: By this mime type a guest asks for a frame: the value is a whole HTML document.
FRAME = "application/vnd.kernel-runtime.frame+html"
WIDGET = "application/vnd.jupyter.widget-view+json"
#: First bytes of each kind of picture.
_MAGIC: dict[str, tuple[bytes, ...]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}
_METADATA = frozenset({"width", "height", "needs_background", "expanded", "root", "alt"})

Bundle = dict[str, Any]


def clean_bundle(
    data: Bundle,
    metadata: Bundle | None = None,
    page: Page = QUIET,
    models: Container[str] | None = None,
) -> Bundle:
    """What of a mime bundle may pass, sanitised; Markdown becomes HTML, a document a frame.

    ``models`` are the widgets a view may name (None: no widgets). Where nothing but text is left of
    a rich output, a note in ``text/html`` says what is missing, why, and what to do.
    """
    passed: Bundle = {}
    missing: list[str] = []
    for mime, value in data.items():
        clean = _CLEANERS.get(mime)
        if clean is not None:
            clean(passed, mime, _joined(value), page, missing)
        elif mime == FRAME:
            _frame(passed, value, metadata, page, missing)
        elif mime == WIDGET:
            _widget(passed, value, models, missing)
        elif mime not in ("text/html", "text/markdown"):
            missing.append(_why(mime))
    _hypertext(passed, data, page, _height(metadata, "text/html"))
    if missing and not passed.keys() - {"text/plain"}:
        shown = html.escape(str(passed.get("text/plain", "")))
        passed["text/html"] = f"<pre>{shown}</pre>" + page_text.note("; ".join(missing[:3]) + ".")
    return passed


def clean_metadata(metadata: Bundle) -> Bundle:
    """Sizes and the like, for a bundle or for each of its mime types; nothing that steers a renderer."""
    found: Bundle = {}
    for name, value in metadata.items():
        if isinstance(value, dict):
            if kept := {key: each for key, each in value.items() if _is_size(key, each)}:
                found[name] = kept
        elif _is_size(name, value):
            found[name] = value
    return found


def _is_size(name: str, value: object) -> bool:
    if name not in _METADATA:
        return False
    if isinstance(value, bool | int | float):
        return True
    return (
        isinstance(value, str)
        and len(value) <= 200
        and (name == "alt" or value in ("light", "dark") or value.isalnum())
    )


def _joined(value: Any) -> Any:
    """nbformat's lists of lines as one string."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return value


def _plain(passed: Bundle, mime: str, value: Any, _page: Page, _missing: list[str]) -> None:
    if isinstance(value, str):
        passed[mime] = page_text.clean_terminal(value)


def _picture(passed: Bundle, mime: str, value: Any, _page: Page, missing: list[str]) -> None:
    if isinstance(value, str) and is_picture(mime, value):
        passed[mime] = value
    else:
        missing.append(f"a picture is not shown: its data is no {mime} in base64")


def is_picture(mime: str, value: str) -> bool:
    """Whether ``value`` is base64 of such a picture, and nothing an HTML attribute could end with."""
    if not value.isascii() or any(mark in value for mark in "\"'<>&`"):
        return False
    try:
        head = binascii.a2b_base64(value[:64].strip()[:16])
    except binascii.Error:
        return False
    return head.startswith(_MAGIC[mime])


def _svg(passed: Bundle, mime: str, value: Any, _page: Page, missing: list[str]) -> None:
    try:
        passed[mime] = clean_svg(value if isinstance(value, str) else "")
    except Unreadable as error:
        missing.append(f"an SVG picture is not shown: {error}")


def _tex(passed: Bundle, mime: str, value: Any, _page: Page, missing: list[str]) -> None:
    if isinstance(value, str) and len(value) <= page_text.MAX_TEX:
        passed[mime] = page_text.clean_tex(value)
    else:
        missing.append(f"a formula is not shown: it is longer than {page_text.MAX_TEX >> 10} KB")


def _json(passed: Bundle, mime: str, value: Any, _page: Page, _missing: list[str]) -> None:
    if isinstance(value, dict | list | str | int | float | None):
        passed[mime] = value


def _frame(passed: Bundle, value: Any, metadata: Bundle | None, page: Page, missing: list[str]) -> None:
    value = _joined(value)
    if not page.frames:
        missing.append(NO_FRAMES.rstrip("."))
    elif isinstance(value, str) and len(value) <= MAX_FRAME:
        passed["text/html"] = frame(value, _height(metadata, FRAME), page.hosts)
    else:
        missing.append(f"an interactive output is not shown: it is larger than {MAX_FRAME >> 20} MB")


def _widget(passed: Bundle, value: Any, models: Container[str] | None, missing: list[str]) -> None:
    model = value.get("model_id") if isinstance(value, dict) else None
    if models is None or not isinstance(model, str) or model not in models:
        missing.append("a widget is not shown: its model is not in this page")
        return
    passed[WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": model}


def _hypertext(passed: Bundle, data: Bundle, page: Page, height: object) -> None:
    """HTML, or else Markdown as HTML; a frame that is already there comes before both."""
    if "text/html" in passed:
        return
    text, markdown = _joined(data.get("text/html")), _joined(data.get("text/markdown"))
    if isinstance(text, str):
        passed["text/html"] = clean_html(text, page, height)
    elif isinstance(markdown, str):
        passed["text/html"] = clean_markdown(markdown, page)


def _height(metadata: Bundle | None, mime: str) -> object:
    own = (metadata or {}).get(mime)
    return own.get("height") if isinstance(own, dict) else None


def _why(mime: str) -> str:
    if mime == "application/javascript":
        return (
            "JavaScript was not run: outputs of the sandbox run no code in this page. "
            "Show a whole HTML document instead; it is put into a frame without network"
        )
    name = page_text.one_line(mime, 80)
    return (
        f"an output of type {name} is not shown: only text, pictures, HTML, formulas and standard widgets are"
    )


_CLEANERS: dict[str, Callable[[Bundle, str, Any, Page, list[str]], None]] = {
    "text/plain": _plain,
    "text/latex": _tex,
    "image/svg+xml": _svg,
    "application/json": _json,
    **dict.fromkeys(_MAGIC, _picture),
}

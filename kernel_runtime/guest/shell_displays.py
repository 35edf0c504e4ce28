"""plotly, bokeh, altair and folium give whole HTML documents, with their JavaScript in them.

The front shows a whole document in a frame without origin and network, and lets no script run in
the page itself. So what these libraries usually do — script in the page, libraries from a CDN —
cannot work; here each is told to put everything into one document as soon as it is imported.

The libraries travel compressed (gzip, base64) and are unpacked in the frame: plotly.js is 1.9 MB
for each figure instead of 4.7, bokeh 0.5 instead of 1.3. Frames of unique origins can share nothing.
"""

from __future__ import annotations

import base64
import html
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from kernel_runtime.guest import imports

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from kernel_runtime.guest.imports import Words

HTML = "text/html"
_PAGE = """\
<!doctype html>
<html data-frame-height="{height}"><head><meta charset="utf-8"><style>body{{margin:0;font:14px sans-serif}}{style}</style></head><body>
{body}
{libraries}
<script>
(async () => {{
  for (const packed of document.querySelectorAll("script[type='text/x-gzip']")) {{
    const bytes = Uint8Array.from(atob(packed.textContent), c => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    (0, eval)(await new Response(stream).text());
    packed.remove();
  }}
  {start}
}})().catch(error => document.body.append(String(error)));
</script>
</body></html>
"""
#: Space for axes, titles and a toolbar around a drawing, in pixels.
_AROUND = 90
_PLOTLY_HEIGHT, _VEGA_HEIGHT, _BOKEH_HEIGHT, _MAP_HEIGHT = 450, 300, 600, 520
_NOTE_STYLE = (
    "position:absolute;z-index:9999;margin:0;padding:1em;font:14px sans-serif;overflow-wrap:anywhere"
)
_ADDRESS = re.compile(r'(?<!\\)"https?://([\w.*{}-]+(?::\d+)?)/')


def install(shell: Any) -> None:
    """Once, where the shell is built."""
    formatter = shell.display_formatter.formatters[HTML]
    formatter.for_type_by_name("branca.element", "Element", _map)
    imports.tell(_LIBRARIES)


def document(*, height: int, body: str, start: str, libraries: Sequence[str] = (), style: str = "") -> str:
    """A document that unpacks ``libraries`` (base64 of gzip) in order, and then runs ``start``.

    ``height``: of its frame, in pixels.
    """
    packed = "".join(f'<script type="text/x-gzip">{library}</script>' for library in libraries)
    return _PAGE.format(height=height, body=body, start=start, libraries=packed, style=style)


def pack(script: str) -> str:
    """A library as ``document`` takes it."""
    import gzip  # here, so that no guest pays for it that shows no such library

    return base64.b64encode(gzip.compress(script.encode(), 6, mtime=0)).decode()


def in_script(value: Any) -> str:
    """JSON that may stand in a ``<script>``."""
    return safe_in_script(json.dumps(value))


def safe_in_script(text: str) -> str:
    """Script or JSON without what would end its element."""
    return text.replace("</", "<\\/").replace("<!--", "<\\!--")


def bundle(page: str) -> dict[str, Any]:
    """A display of a document."""
    return {HTML: page, "text/plain": "(an interactive output)"}


# -- plotly ---------------------------------------------------------------------------------------

_IN_PAGE = [
    *(
        "plotly_mimetype",
        "jupyterlab",
        "nteract",
        "vscode",
        "notebook",
        "notebook_connected",
        "kaggle",
        "azure",
    ),
    *(
        "colab",
        "cocalc",
        "databricks",
        "browser",
        "firefox",
        "chrome",
        "chromium",
        "iframe",
        "iframe_connected",
    ),
]


def _tell_plotly(module: ModuleType) -> None:
    """Every renderer that needs a page or a browser gives a document; pictures stay pictures."""
    renderers: Any = module.__dict__["renderers"]

    class Frame(module.MimetypeRenderer):  # type: ignore[name-defined, misc] # found at run time
        def to_mimebundle(self, figure: dict[str, Any]) -> dict[str, Any]:
            return bundle(_plotly_page(figure))

    for name in _IN_PAGE:
        renderers[name] = Frame()
    if renderers.default == "plotly_mimetype+notebook":  # its choice where it knows nothing
        renderers.default = "plotly_mimetype"


def _plotly_page(figure: dict[str, Any]) -> str:
    from plotly.io import to_json

    height = int((figure.get("layout") or {}).get("height") or _PLOTLY_HEIGHT)
    start = (
        f"const figure = {safe_in_script(to_json(figure, validate=False))};"
        "figure.config = Object.assign({responsive: true, displaylogo: false}, figure.config);"
        "await Plotly.newPlot('plot', figure);"
    )
    body = f'<div id="plot" style="height:{height}px"></div>'
    return document(height=height + 4, body=body, start=start, libraries=[_plotly_library()])


@cache
def _plotly_library() -> str:
    from plotly.offline import get_plotlyjs

    return pack(get_plotlyjs())


# -- bokeh ----------------------------------------------------------------------------------------


def _tell_bokeh(_: ModuleType) -> None:
    """``show`` gives a document, with or without ``output_notebook`` before it."""
    from bokeh.io.notebook import install_notebook_hook
    from bokeh.io.state import curstate

    show: Any = _show_bokeh
    install_notebook_hook("jupyter", lambda *_, **__: None, show, _no_application, overwrite=True)
    curstate().output_notebook("jupyter")


def _show_bokeh(shown: Any, state: Any, notebook_handle: Any = None) -> None:
    from IPython.display import display

    display(bundle(_bokeh_page(shown)), raw=True)  # type: ignore[no-untyped-call] # IPython's


def _no_application(*_: Any, **__: Any) -> None:
    raise NotImplementedError("a bokeh application needs a server, and no guest can be reached by the page")


def _bokeh_page(shown: Any) -> str:
    from bokeh.embed import components
    from bokeh.embed.bundle import bundle_for_objs_and_resources
    from bokeh.resources import INLINE

    found = bundle_for_objs_and_resources(
        list(shown) if isinstance(shown, (list, tuple)) else [shown], INLINE
    )
    script, body = components(shown, wrap_script=False)
    body = body if isinstance(body, str) else "".join(body)
    libraries = [_packed(each) for each in found.js_raw]
    start, style = safe_in_script(script), "".join(found.css_raw)
    return document(height=_bokeh_height(shown), body=body, start=start, libraries=libraries, style=style)


def _bokeh_height(shown: Any) -> int:
    height = getattr(shown, "height", None)
    return height + 20 if isinstance(height, int) else _BOKEH_HEIGHT


@cache
def _packed(script: str) -> str:
    return pack(script)


# -- altair ---------------------------------------------------------------------------------------

_VEGA = ("vega", "vega-lite", "vega-embed")
_CDN = "https://cdn.jsdelivr.net/npm"
_NO_VEGA = (
    "This chart needs Vega's JavaScript. Install <code>vl-convert-python</code> where this notebook's Python is: "
    "it has it for use without network. Or let the page load it: "
    "<code>KERNEL_RUNTIME_PAGE_HOSTS=cdn.jsdelivr.net</code>."
)


def _tell_altair(module: ModuleType) -> None:
    """Every renderer that needs a page gives a document; ``png``, ``svg`` and ``json`` stay."""
    renderers = module.__dict__["renderers"]
    for name in (
        "default",
        "html",
        "colab",
        "kaggle",
        "zeppelin",
        "mimetype",
        "jupyterlab",
        "nteract",
        "browser",
    ):
        renderers.register(name, _altair_bundle)
    renderers.enable("default")


def _altair_bundle(spec: dict[str, Any], embed_options: Any = None, **_: Any) -> dict[str, Any]:
    libraries, tags = _vega()
    options = {"mode": "vega-lite", "actions": {"source": False, "compiled": False, "editor": False}}
    options |= embed_options or {}
    start = (
        f"if (typeof vegaEmbed === 'undefined') document.getElementById('chart').innerHTML = {in_script(_NO_VEGA)};"
        f"else await vegaEmbed('#chart', {in_script(spec)}, {in_script(options)});"
    )
    body = f'{tags}<div id="chart">loading Vega</div>'
    return bundle(document(height=_vega_height(spec), body=body, start=start, libraries=libraries))


def _vega() -> tuple[list[str], str]:
    """Vega, packed, if vl-convert is there; else script elements that a granted host may answer."""
    try:
        return [_vega_library()], ""
    except ImportError:
        from altair.vegalite.v6 import display

        versions = (display.VEGA_VERSION, display.VEGALITE_VERSION, display.VEGAEMBED_VERSION)
        return [], "".join(
            f'<script src="{_CDN}/{name}@{version}"></script>'
            for name, version in zip(_VEGA, versions, strict=True)
        )


@cache
def _vega_library() -> str:
    from altair.utils._importers import import_vl_convert, vl_version_for_vl_convert

    return pack(import_vl_convert().javascript_bundle(vl_version=vl_version_for_vl_convert()))


def _vega_height(spec: Any) -> int:
    """What a chart will need: exact for plain charts, a guess for faceted ones."""
    if not isinstance(spec, dict):
        return _VEGA_HEIGHT
    if parts := spec.get("vconcat"):
        return sum(map(_vega_height, parts))
    if parts := spec.get("hconcat"):
        return max(map(_vega_height, parts))
    height = spec.get("height")
    return (int(height) if isinstance(height, (int, float)) else _VEGA_HEIGHT) + _AROUND


# -- folium ---------------------------------------------------------------------------------------


def _map(element: Any) -> str:
    """A map with what it needs said in the frame; what it loads, granted hosts only may answer."""
    page = element.get_root().render()
    hosts = sorted({host.replace("{s}", "*") for host in _ADDRESS.findall(page)} - {"www.w3.org"})
    said = (
        "This output loads scripts and pictures from other hosts. To let it, set "
        f"<code>KERNEL_RUNTIME_PAGE_HOSTS={html.escape(','.join(hosts))}</code>."
    )
    note = (
        f'<p id="kernel-runtime-note" style="{_NOTE_STYLE}">{said}</p>'
        "<script>addEventListener('load', () => { if (window.L) "
        "document.getElementById('kernel-runtime-note').remove(); })</script>"
    )
    page = re.sub(r"<body[^>]*>", lambda found: found[0] + note, page, count=1)
    return page.replace("<html>", f'<html data-frame-height="{_MAP_HEIGHT}">', 1)


_LIBRARIES: Words = {
    "plotly.io._renderers": _tell_plotly,
    "bokeh.io": _tell_bokeh,
    "altair": _tell_altair,
}

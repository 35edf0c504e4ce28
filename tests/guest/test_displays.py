"""Documents of plotly, bokeh, altair and folium: whole, without network, and only when they are used."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from kernel_runtime.guest import shell_displays

#: A fresh interpreter, because the libraries keep what they were told.
PREPARED = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
from kernel_runtime.guest import shell_displays
shell = InteractiveShell.instance()
shell_displays.install(shell)
shown = []
shell.display_pub.publish = lambda data, metadata=None, **_: shown.append(data)
"""


def shown_by(code: str) -> list[dict[str, Any]]:
    """The bundles that ``code`` displays, with what it has put into ``shown`` itself."""
    command = [sys.executable, "-c", PREPARED + code + "\nprint('\\n' + json.dumps(shown))"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def libraries(page: str) -> list[str]:
    """The scripts a document carries, unpacked."""
    packed = re.findall(r'<script type="text/x-gzip">([^<]*)</script>', page)
    return [gzip.decompress(base64.b64decode(each)).decode() for each in packed]


def test_a_library_that_is_not_used_is_not_imported():
    names = shown_by("shown.append({n: n in sys.modules for n in ('plotly', 'bokeh', 'altair', 'folium')})")
    assert not any(names[0].values())


#: Each displays one figure.
PLOTLY = {
    "show": "go.Figure(go.Bar(y=[1, 2])).show()",
    "show in a notebook": "go.Figure(go.Bar(y=[1, 2])).show('notebook')",
    "the last value": "go.Figure(go.Bar(y=[1, 2]))._ipython_display_()",
    "text that ends a script": "go.Figure(go.Bar(y=[1]), layout={'title': '</script><b>'}).show()",
    "a height": "go.Figure(layout={'height': 777}).show()",
}


@pytest.fixture(scope="module")
def plotly_pages():
    """Of one interpreter, as those of one notebook: the library takes seconds to import."""
    shown = shown_by("import plotly.graph_objects as go\n" + "\n".join(PLOTLY.values()))
    return dict(zip(PLOTLY, (each["text/html"] for each in shown), strict=True))


@pytest.mark.parametrize("how", ["show", "show in a notebook", "the last value"])
def test_plotly(plotly_pages, how):
    page = plotly_pages[how]
    assert page.startswith("<!doctype html>\n<html data-frame-height=")
    assert "plotly.js v" in libraries(page)[0]
    assert not re.search(r"<script[^>]* src=", page)
    assert len(page) < 3_000_000


def test_text_in_a_figure_does_not_end_the_script(plotly_pages):
    assert "</script><b>" not in plotly_pages["text that ends a script"]


def test_the_figures_own_height_is_the_frames(plotly_pages):
    assert 'data-frame-height="781"' in plotly_pages["a height"]


@pytest.mark.parametrize("before", ["", "from bokeh.io import output_notebook\noutput_notebook()\n"])
def test_bokeh(before):
    (shown,) = shown_by(
        f"{before}from bokeh.plotting import figure, show\np = figure(height=200)\np.line([1, 2], [3, 4])\nshow(p)"
    )
    assert any("Bokeh" in each for each in libraries(shown["text/html"]))
    assert 'data-frame-height="220"' in shown["text/html"]


@pytest.fixture(scope="module")
def altair_charts():
    """By renderer, of one interpreter."""
    renderers = ("default", "mimetype", "html")
    shown = shown_by(
        "sys.modules['vl_convert'] = None\nimport altair as alt, pandas as pd\n"
        "chart = alt.Chart(pd.DataFrame({'a': [1]})).mark_bar().encode(x='a')\n"
        f"for each in {renderers}: alt.renderers.enable(each); shown.append(chart._repr_mimebundle_())"
    )
    return dict(zip(renderers, shown, strict=True))


@pytest.mark.parametrize("renderer", ["default", "mimetype", "html"])
def test_altair_without_vega_says_what_it_needs(altair_charts, renderer):
    shown = altair_charts[renderer]
    assert "vl-convert-python" in shown["text/html"]
    assert 'src="https://cdn.jsdelivr.net/npm/vega@' in shown["text/html"]


def test_altair_with_vega_carries_it():
    (shown,) = shown_by(
        "import altair as alt, pandas as pd\n"
        "shell_displays._vega_library = lambda: shell_displays.pack('window.vegaEmbed = 1')\n"
        "shown.append(alt.Chart(pd.DataFrame({'a': [1]})).mark_bar().encode(x='a')._repr_mimebundle_())"
    )
    assert libraries(shown["text/html"]) == ["window.vegaEmbed = 1"]
    assert "https://cdn" not in shown["text/html"]


def test_a_map_names_the_hosts_it_needs():
    (shown,) = shown_by(
        "import folium\nshown.append(shell.display_formatter.format(folium.Map([60, 10]))[0])"
    )
    page = shown["text/html"]
    assert page.lower().startswith("<!doctype html>")
    named = re.search(r"KERNEL_RUNTIME_PAGE_HOSTS=([^<]*)<", page)
    assert named is not None
    assert {"cdn.jsdelivr.net", "tile.openstreetmap.org"} <= set(named[1].split(","))


@pytest.mark.parametrize(
    ("spec", "height"),
    [
        ({}, 390),
        ({"height": 100}, 190),
        ({"vconcat": [{"height": 100}, {"height": 50}]}, 330),
        ({"hconcat": [{"height": 100}, {"height": 50}]}, 190),
        ("no spec", 300),
    ],
)
def test_the_height_of_a_chart(spec, height):
    assert shell_displays._vega_height(spec) == height

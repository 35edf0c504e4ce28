"""What people show in notebooks still looks right in a real JupyterLab, without network.

Screenshots lie in pytest's temporary directory, or in ``$KERNEL_RUNTIME_SCREENSHOTS``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.keys import Keys

from tests.journeys import lab
from tests.journeys.lab import Notebook, wait_until
from tests.jupyter.kernels import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium import webdriver

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FRAME_SAYS_INSTALL = importlib.util.find_spec("vl_convert") is None
SETUP = """\
import numpy as np, pandas as pd
from IPython.display import *
import ipywidgets as w
df = pd.DataFrame({'city': ['Oslo', 'Lima', 'Pune', 'Kyiv'], 'people': [0.7, 10.1, 7.2, 3.0], 'growth': [1.2, -0.4, 2.2, -1.1]})"""
#: Name → cell.
CELLS = {
    "table": "df",
    "styler": "df.style.background_gradient(subset=['people'], cmap='viridis').bar(subset=['growth'], align='zero', color=['#d65f5f', '#5fba7d']).format(precision=1).set_caption('Cities')",
    "png": "%matplotlib inline\nimport matplotlib.pyplot as plt\nfig, ax = plt.subplots(figsize=(6, 2.5))\nax.plot(np.sin(np.linspace(0, 9, 200))); ax.set_title('a sine');",
    "svg": "%config InlineBackend.figure_formats = ['svg']\nfig, ax = plt.subplots(figsize=(6, 2.5))\nax.bar(df.city, df.people, color='teal'); ax.set_title('as SVG');",
    "plotly": "import plotly.express as px\npx.scatter(px.data.iris(), x='sepal_width', y='sepal_length', color='species', height=380)",
    "plotly_show": "import plotly.graph_objects as go\ngo.Figure(go.Surface(z=np.outer(np.hanning(30), np.hanning(30))), layout={'height': 380}).show()",
    "bokeh": "from bokeh.plotting import figure, show\np = figure(height=300, width=700, title='bokeh', tools='pan,wheel_zoom,reset')\np.line([1, 2, 3, 4], [3, 1, 4, 2], line_width=3); p.scatter([1, 2, 3, 4], [3, 1, 4, 2], size=12, color='crimson')\nshow(p)",
    "altair": "import altair as alt\nalt.Chart(df).mark_bar().encode(x='city', y='people', color='city').properties(height=220, width=500).interactive()",
    "folium": "import folium\nfolium.Map([59.9, 10.7], zoom_start=5)",
    "folium_granted": (
        "folium.Map.default_js = [('leaflet', 'http://@HOST@/leaflet.js')]; folium.Map.default_css = []\n"
        "m = folium.Map([59.9, 10.7], zoom_start=5, tiles='http://@HOST@/{z}/{x}/{y}.png', attr='a stand-in')\n"
        "folium.Marker([59.9, 10.7]).add_to(m); m"
    ),
    "html": "display(HTML('<table border=1><tr><th>a</th><th>b</th></tr><tr><td style=\"color:crimson\">1</td><td><b>2</b></td></tr></table>'))",
    "image": "fig.savefig('/tmp/x.png'); display(Image('/tmp/x.png', width=300))",
    "svg_object": "SVG('<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"120\" height=\"60\"><circle cx=\"30\" cy=\"30\" r=\"25\" fill=\"orange\"/><rect x=\"65\" y=\"5\" width=\"50\" height=\"50\" fill=\"steelblue\"/></svg>')",
    "markdown": "Markdown('# Head\\n- *slanted*, **bold**, `code`\\n- $e^{i\\\\pi} = -1$\\n\\n|a|b|\\n|-|-|\\n|1|2|')",
    "latex": "display(Latex(r'$\\frac{a}{b}$'), Math(r'\\sum_{i=0}^n i^2'))",
    "json": "JSON({'deep': {'er': [1, 2, {'x': None}]}}, expanded=True)",
    "audio": "Audio(np.sin(np.linspace(0, 4000, 8000)), rate=8000)",
    "iframe": "IFrame('https://example.org', 400, 100)",
    "tqdm": "from tqdm.notebook import tqdm\nfor i in tqdm(range(50), desc='working'): pass",
    "widgets": (
        "slider = w.IntSlider(value=3, max=10, description='n'); said = w.Output()\n"
        "slider.observe(lambda c: said.append_stdout(f'n is {c[\"new\"]}\\n'), 'value')\n"
        "tabs = w.Tab([w.VBox([slider, w.Dropdown(options=['red', 'green'], description='colour')]), w.HTML('<i>second</i>')], titles=['First', 'Second'])\n"
        "display(tabs, said)"
    ),
    "interact": "@w.interact(k=(1, 5))\ndef squared(k=3): display(HTML(f'<b>{k} squared is {k * k}</b>'))",
}  # fmt: skip

#: As much of Leaflet as a map with one layer and a marker asks for.
LEAFLET = """
const nothing = new Proxy(function () {}, {get: (_, name) => name === 'then' ? undefined : nothing, apply: () => nothing});
const place = id => document.getElementById(id);
const layer = make => ({addTo(map) { map.node.append(make()); return this; }, bindPopup() { return this; }});
window.L = new Proxy({
  map(id) { return {node: place(id), on() {}, addLayer() {}}; },
  tileLayer: address => layer(() => Object.assign(new Image(256, 256), {className: 'tile',
      src: address.replace('{z}', 5).replace('{x}', 16).replace('{y}', 9)})),
  marker: () => layer(() => Object.assign(document.createElement('b'), {className: 'marker', textContent: 'here'})),
}, {get: (known, name) => known[name] || nothing});
"""


class _StandIn(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        script = self.path.endswith(".js")
        picture = io.BytesIO()
        Image.new("RGB", (256, 256), "seagreen").save(picture, "png")
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if script else "image/png")
        self.end_headers()
        self.wfile.write(LEAFLET.encode() if script else picture.getvalue())

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def stand_in() -> Iterator[str]:
    """A host that is granted, in place of a CDN and of tiles."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _StandIn) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def environment(jupyter: dict[str, str], stand_in: str) -> dict[str, str]:
    return {**jupyter, "KERNEL_RUNTIME_WARM": "0", "KERNEL_RUNTIME_PAGE_HOSTS": stand_in}


@pytest.fixture(scope="module")
def notebook(driver: webdriver.Chrome, address: str, place: Path, stand_in: str) -> Notebook:
    found = Notebook(driver, address, place)
    found.open(SETUP, *(cell.replace("@HOST@", stand_in) for cell in CELLS.values()), name="libraries.ipynb")
    found.run_all(180)
    return found


@pytest.fixture
def shown(notebook: Notebook, place: Path, request: pytest.FixtureRequest) -> Iterator[Shown]:
    """The output of the cell the test is named after; photographed at the end."""
    name = request.node.name.removeprefix("test_")
    found = Shown(notebook, list(CELLS).index(name) + 1)
    yield found
    notebook.driver.switch_to.default_content()
    found.area.screenshot(str(lab.screenshots(place) / f"{name}.png"))


class Shown:
    """One cell's output in the page."""

    def __init__(self, notebook: Notebook, index: int) -> None:
        self.notebook = notebook
        self.index = index
        self.driver = notebook.driver
        self.area = notebook.find(".jp-Cell-outputArea", index)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", self.area)

    def style(self, selector: str, name: str) -> str:
        """A computed style of the first such element in sight."""
        return str(self.find(selector).value_of_css_property(name))

    def find(self, selector: str) -> Any:
        return self.notebook.find(selector, self.index)

    def colours(self) -> int:
        """How many colours are drawn: blank areas have few."""
        picture = Image.open(io.BytesIO(self.area.screenshot_as_png)).convert("RGB")
        return len(picture.getcolors(1 << 24) or ())

    def in_frame(self, script: str) -> Any:
        """What script returns in the innermost frame that there is by now."""
        frames = self.area.find_elements("css selector", "iframe")
        try:
            while frames:
                self.driver.switch_to.frame(frames[0])
                frames = self.driver.find_elements("css selector", "iframe")
            return self.driver.execute_script(f"return {script}")
        finally:
            self.driver.switch_to.default_content()

    def wait_framed(self, script: str, seconds: float = PATIENCE) -> Any:
        """Until script in the innermost frame returns something true; that frame may still be to come."""

        def found() -> Any:
            with contextlib.suppress(WebDriverException):  # what it speaks of is not there yet
                return self.in_frame(script)

        return wait_until(
            found, seconds, lambda: f"{script}: {self.in_frame('document.body.innerText.slice(0, 300)')!r}"
        )


def test_table(shown):
    assert len(shown.area.find_elements("css selector", "table.dataframe tbody tr")) == 4
    assert shown.style("table.dataframe td", "text-align") == "right"


def test_styler(shown):
    assert shown.style("td.col1", "background-color") not in ("rgba(0, 0, 0, 0)", "")
    assert "linear-gradient" in shown.style("td.col2", "background-image")
    assert shown.find("caption").text == "Cities"


def test_png(shown):
    image = shown.find(".jp-RenderedImage img")
    wait_until(lambda: int(image.get_property("naturalWidth") or 0) > 200, PATIENCE, "no pixels")
    assert shown.colours() > 20


def test_svg(shown):
    image = shown.find(".jp-RenderedSVG img, .jp-RenderedSVG svg, .jp-RenderedImage img")
    assert image.size["width"] > 200
    wait_until(lambda: shown.colours() > 20, PATIENCE, "nothing is drawn")


def test_plotly(shown):
    assert shown.wait_framed("document.querySelectorAll('.scatterlayer .trace path.point').length === 150")
    wait_until(lambda: shown.colours() > 50, PATIENCE, "nothing is drawn")


def test_plotly_show(shown):
    assert shown.wait_framed("document.querySelector('.gl-container, .main-svg') && 1")


def test_bokeh(shown):
    found = """(function seek(root) {
        if (root.querySelector('canvas')?.width > 100) return true;
        return [...root.querySelectorAll('*')].some(e => e.shadowRoot && seek(e.shadowRoot));
    })(document)"""
    assert shown.wait_framed(found)
    wait_until(lambda: shown.colours() > 20, PATIENCE, "nothing is drawn")


def test_altair(shown):
    if FRAME_SAYS_INSTALL:
        assert "vl-convert-python" in shown.wait_framed(
            "document.querySelector('#chart code') && document.body.innerText"
        )
    else:
        assert shown.wait_framed("document.querySelector('#chart :is(canvas, svg)') && 1")


def test_folium(shown):
    note = "document.getElementById('kernel-runtime-note').innerText"
    for place in ("cdn.jsdelivr.net", "tile.openstreetmap.org"):
        assert shown.wait_framed(f"{note}.includes('{place}')")


def test_folium_granted(shown):
    assert shown.wait_framed("document.querySelector('img.tile')?.naturalWidth") == 256
    assert shown.wait_framed(
        "document.querySelector('.marker') && !document.getElementById('kernel-runtime-note')"
    )


def test_html(shown):
    assert shown.style("td", "color") in ("rgb(220, 20, 60)", "rgba(220, 20, 60, 1)")


def test_image(shown):
    assert shown.find("img").size["width"] == 300


def test_svg_object(shown):
    wait_until(lambda: shown.colours() > 3, PATIENCE, "nothing is drawn")


def test_markdown(shown):
    assert shown.find("h1").text.startswith("Head")
    assert [cell.text for cell in shown.area.find_elements("css selector", "td")] == ["1", "2"]
    assert shown.find("mjx-container")


def test_latex(shown):
    wait_until(
        lambda: len(shown.area.find_elements("css selector", "mjx-container")) == 2, PATIENCE, "no formulas"
    )


def test_json(shown):
    assert "deep" in shown.notebook.expect(shown.index, "deep.*er")


def test_audio(shown):
    audio = shown.find("audio")
    wait_until(lambda: float(audio.get_property("duration") or 0) == 1.0, PATIENCE, "the sound is not there")


def test_iframe(shown):
    assert not shown.area.find_elements("css selector", "iframe[src]")
    assert shown.wait_framed("document.body.innerText.includes('not loaded: https://example.org')")


def test_tqdm(shown):
    assert "50/50" in shown.notebook.expect(shown.index, "working.*50/50")
    assert shown.style(".progress-bar", "width") != "0px"


def test_widgets(shown):
    shown.find(".noUi-handle").send_keys(Keys.ARROW_RIGHT)
    shown.notebook.expect(shown.index, "n is 4")
    assert [tab.text for tab in shown.area.find_elements("css selector", ".lm-TabBar-tab")] == [
        "First",
        "Second",
    ]
    assert shown.find("select")


def test_interact(shown):
    shown.notebook.expect(shown.index, "3 squared is 9")
    shown.find(".noUi-handle").send_keys(Keys.ARROW_RIGHT)
    shown.notebook.expect(shown.index, "4 squared is 16")

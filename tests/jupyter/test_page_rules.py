"""The gate: mime types, pictures, terminals, widgets, replies and prompts of a guest."""

from __future__ import annotations

import base64
import copy
import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.level import Level
from kernel_runtime.jupyter import contents
from kernel_runtime.jupyter.cleaning import FRAME, WIDGET, clean_bundle, clean_metadata
from kernel_runtime.jupyter.page_frame import frame, hashes_of, original, outer
from kernel_runtime.jupyter.page_hosts import is_granted, parse_hosts
from kernel_runtime.jupyter.page_html import clean_html
from kernel_runtime.jupyter.page_svg import Unreadable, clean_svg
from kernel_runtime.jupyter.page_text import Terminal, clean_terminal
from kernel_runtime.jupyter.page_widgets import STANDARD, Widgets
from kernel_runtime.jupyter.policy import CONTROL_TARGET, WIDGET_TARGET, Gate
from kernel_runtime.jupyter.prompts import MARK, shown_prompt

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()


# -- mime bundles ------------------------------------------------------------------------------


def test_what_passes_and_what_does_not():
    given = {
        "text/plain": "x\x1b]0;title\x07y", "text/latex": r"$\href{javascript:x}{y}$", "application/json": {"a": [1]},
        "image/png": PNG + "\n", "image/jpeg": PNG, "application/javascript": "x()", "application/pdf": "JVBE",
        "application/vnd.plotly.v1+json": {}, "application/vnd.vega.v5+json": {}, "application/geo+json": {},
        "text/vnd.mermaid": "x", "video/mp4": "AAAA", "application/x-nteract": {}, "text/html": "<b>b</b><script>x</script>",
        "application/vnd.jupyter.stdout": "x", WIDGET: {"model_id": "unknown"},
    }  # fmt: skip
    cleaned = clean_bundle(given)
    assert cleaned.keys() == {"text/plain", "text/latex", "application/json", "image/png", "text/html"}
    assert cleaned["text/plain"] == "xy"
    assert cleaned["text/latex"] == r"$\text{javascript:x}{y}$"


@pytest.mark.parametrize(("mime", "value", "said"), [
    ("application/javascript", "x()", "JavaScript was not run"),
    ("application/vnd.x+json", {}, "application/vnd.x+json is not shown"),
    ("image/png", "<svg onload=x()>", "no image/png"),
    ("image/png", PNG[:16] + "\" onerror=\"x()", "no image/png"),
    ("image/png", ["x", 3], "no image/png"),
    ("image/svg+xml", "<svg><b>", "not well-formed"),
    (FRAME, 7, "not shown"),
    (WIDGET, {"model_id": "m"}, "not in this page"),
    ("text/latex", "x" * 100_000, "longer than"),
])  # fmt: skip
def test_what_a_person_would_miss_is_said(mime, value, said):
    cleaned = clean_bundle({mime: value, "text/plain": "<repr>"})
    assert said in cleaned["text/html"]
    assert cleaned["text/html"].startswith("<pre>&lt;repr&gt;</pre>")
    assert mime not in cleaned


def test_markdown_and_frames_become_html():
    assert "<strong>a</strong>" in clean_bundle({"text/markdown": "**a**"})["text/html"]
    framed = clean_bundle({FRAME: "<p>x", "text/html": "<b>", "text/plain": "y"}, {FRAME: {"height": 99}})
    assert 'height="99"' in framed["text/html"]
    assert framed.keys() == {"text/html", "text/plain"}


@pytest.mark.parametrize("data", [
    {FRAME: "<p>x"},
    {"text/html": "<!doctype html><p>x"},
    {"text/html": "<b>kept</b><iframe srcdoc='<p>x'></iframe>"},
    {"text/markdown": "**kept**\n\n<iframe srcdoc='<p>x'></iframe>"},
])  # fmt: skip
def test_at_level_strict_nothing_stands_in_a_frame(data):
    """A frame sends no request, but can make the browser look up a name."""
    for level in Level:
        shown = contents.Display(data=dict(data, **{"text/plain": "y"}), metadata={})
        Gate(level).admit("display_data", shown, [])
        assert ("<iframe" in shown.data["text/html"]) is (level is not Level.STRICT)
        assert ("kept" in shown.data["text/html"]) is ("kept" in str(data))
        assert "level moderate" in shown.data["text/html"] or level is not Level.STRICT or "kept" in str(data)


def test_metadata_are_sizes():
    given = {"isolated": True, "image/png": {"width": 20, "onload": "x", "height": "3em"}, "text/html": {"isolated": True},
             "needs_background": "light", "width": "1;position:fixed"}  # fmt: skip
    assert clean_metadata(given) == {"image/png": {"width": 20, "height": "3em"}, "needs_background": "light"}


# -- svg ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [
    "<script>x()</script>", "<script href='http://evil/'/>", "<g onclick='x()'/>", "<foreignObject><b xmlns='http://www.w3.org/1999/xhtml'>x</b></foreignObject>",
    "<a href='javascript:x()'><text>t</text></a>", "<image href='http://evil/p.png'/>", "<use href='http://evil/x#a'/>",
    "<use xlink:href='data:image/svg+xml;base64,AAAA#a'/>", "<animate attributeName='href' to='javascript:x()'/>", "<set attributeName='onload' to='x()'/>",
    "<style>@import url(http://evil/);*{background:url(http://evil/)}</style>", "<style>&lt;/style&gt;&lt;script&gt;x()&lt;/script&gt;</style>",
    "<style><![CDATA[</style><script>x()</script>]]></style>", "<rect fill='url(http://evil/#a)' style='fill:url(http://evil/)'/>",
    "<title><![CDATA[<script>x()</script>]]></title>", "<feImage href='http://evil/'/>", "<iframe src='http://evil/'/>",
    "<h:script xmlns:h='http://www.w3.org/1999/xhtml'>x()</h:script>", "<h:img xmlns:h='http://www.w3.org/1999/xhtml' src='x' onerror='x()'/>",
    "<style>:root{position:fixed;inset:0}</style>", "<text style='position:fixed' data-commandlinker-command='x'>t</text>",
    "<?xml-stylesheet href='http://evil/'?>", "<handler type='text/ecmascript'>x()</handler>", "<metadata><script>x()</script></metadata>",
])  # fmt: skip
def test_hostile_svg(inside):
    cleaned = clean_svg(f"<svg xmlns='http://www.w3.org/2000/svg'>{inside}</svg>")
    for word in (
        "evil",
        "<script",
        "onclick",
        "onload",
        "onerror",
        "javascript",
        "<iframe",
        "<a",
        "fixed",
        "data-",
        "@import",
        "<?",
    ):
        assert word not in cleaned


def _chain(link: str, count: int = 10, holder: str = "g", sheet: str = "") -> str:
    """``count`` parts, each of which draws the one before it ten times."""
    parts = "".join(
        f"<{holder} id='x{n}'>" + link.format(n - 1) * (1 if "<g" in link else 10) + f"</{holder}>"
        for n in range(1, count)
    )
    return f"<svg xmlns='http://www.w3.org/2000/svg'>{sheet}<{holder} id='x0'><rect/></{holder}>{parts}<rect class='a{count - 1}'/></svg>"


_TEN = "<rect/>" * 10
_CORNERS = "M0 0" + "L1 1" * 100
CHAINS = {
    "use": ("<use href='#x{}'/>", "g", ""),
    "use by its old name": ("<use xmlns:l='http://www.w3.org/1999/xlink' l:href='#x{}'/>", "g", ""),
    "pattern": ("<rect fill='url(#x{})'/>", "pattern", ""),
    "inherited pattern": (f"<g fill='url(#x{{}})'>{_TEN}</g>", "pattern", ""),
    "style": ("<rect style='fill:url(\"#x{}\")'/>", "pattern", ""),
    "clip path": ("<rect clip-path='url(#x{})'/>", "clipPath", ""),
    "corners": (f"<g><path marker-mid='url(#x{{}})' d='{_CORNERS}'/></g>", "marker", ""),
    "sheet": (
        "<rect class='a{}'/>",
        "pattern",
        "<style>" + "".join(f"rect.a{n}{{fill:url(#x{n})}}" for n in range(10)) + "</style>",
    ),
    "sheet for all": ("<rect/>", "pattern", "<style>*{fill:url(#x9)}</style>"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_drawing_that_draws_its_parts_again_and_again_is_refused(name):
    link, holder, sheet = CHAINS[name]
    with pytest.raises(Unreadable, match=r"elements|itself"):
        clean_svg(_chain(link, holder=holder, sheet=sheet))
    short = clean_svg(_chain(link, 3, holder=holder, sheet="" if "all" in name else sheet))
    assert short.count("<rect") >= 2  # the same in a bearable amount


def test_what_a_drawing_refers_to_is_its_own():
    cleaned = clean_svg(
        "<svg xmlns='http://www.w3.org/2000/svg'><style>#a{fill:url(#b)} .c{fill:url('#b')}</style><g id='a'/>"
        "<rect fill='url(#b)' style='stroke:url(&quot;#b&quot;)'/><use href='#a'/><use href='#kr-a'/></svg>"
    )
    name = re.search(r"<g id=\"(krs\w+-)a\"", cleaned)[1]
    assert len(re.findall(r"#[\w-]+", cleaned)) == cleaned.count("#" + name) == 7
    other = clean_svg(f"<svg xmlns='http://www.w3.org/2000/svg'><use href='#{name}a'/></svg>")
    assert f"#{name}a" not in other
    assert "--" not in clean_svg("<svg xmlns='http://www.w3.org/2000/svg'><g style='--x:url(#a)'/></svg>")


def test_html_draws_no_part_within_a_part():
    used = "<svg><symbol id='s'><path d='M0 0'/></symbol></svg>" + "<svg><use href='#s'/></svg>" * 100
    assert clean_html(used).count('<use href="#kr-s"') == 100
    nested = "<svg><symbol id='t'><g title='</symbol>'><use href='#s'/></g></symbol></svg>"
    many = (
        "<svg><symbol id='s'>"
        + "<path></path>" * 1000
        + "</symbol>"
        + "<use href='#s'></use>" * 1000
        + "</svg>"
    )
    for hostile in (used + nested, many, "<svg><clipPath id=a><path clip-path='url(#b)'/></clipPath></svg>"):
        assert "<use" not in clean_html(hostile)
        assert "too often" in clean_html(hostile)
    assert "<g id" not in clean_html("<svg><g id='a'><path/></g></svg>")
    assert "<path id" in clean_html("<svg><g id='a'><path id='p'/></g></svg>")


@pytest.mark.parametrize("text", [
    "<svg", "<b/>", "", "<svg>&unknown;</svg>",
    "<!DOCTYPE svg [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;'>]><svg>&b;</svg>",
    "<!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg><text>&x;</text></svg>",
    "<svg>" + "<g>" * 100_000 + "</g>" * 100_000 + "</svg>",
    "<svg>" + "<g/>" * 150_000 + "</svg>", "<svg>" + "x" * 17_000_000 + "</svg>",
], ids=range(9))  # fmt: skip
def test_svg_that_is_refused(text):
    with pytest.raises(Unreadable):
        clean_svg(text)


def test_matplotlibs_svg_stays_right():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots()
    axes.plot([1, 3, 2], label="a < b & c")
    axes.imshow(np.eye(3))
    axes.legend()
    file = io.StringIO()
    figure.savefig(file, format="svg")
    plt.close(figure)
    given, cleaned = file.getvalue(), clean_svg(file.getvalue())
    for tag in ("<path", "<use", "<image", "<g", "<clipPath", "<defs"):
        assert cleaned.count(tag) == len(re.findall(rf"{tag}\b", given.partition("</metadata>")[2])), tag
    assert re.search(r"\.kr-\w+ \*\{stroke-linejoin:round;stroke-linecap:butt\}", cleaned)
    ids, references = (
        set(re.findall(r' id="([^"]+)"', cleaned)),
        re.findall(r'(?:url\(|href=")#([^")]+)', cleaned),
    )
    assert references
    assert set(references) <= ids
    assert clean_svg(cleaned).count("<path") == cleaned.count("<path")


# -- terminals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "shown"), [
    ("\x1b[31;1mred\x1b[0m\tand\rback\b\n", "\x1b[31;1mred\x1b[0m\tand\rback\b\n"),
    ("\x1b]8;;http://evil/\x1b\\link\x1b]8;;\x07", "link"),
    ("\x1b]52;c;cm0=\x07a\x9d52;c;x\x9cb", "ab"[:1] + "52;c;xb"),
    ("\x1bP$q\x1b\\a\x1b[2J\x1b[1;1Hb\x1b[?1049hc", "abc"),
    ("\x1b]0;title", ""), ("a\x1b", "a"), ("\x1bca\x1b(0b\x0ec\x05\x07", "abc"), ("\x9b31mé", "31mé"), ("é\x85x", "éx"),
    ("\x1b[38;2;1;2;3mtrue\x1b[m", "\x1b[38;2;1;2;3mtrue\x1b[m"), ("\x1b[6n\x1b[>c\x1b[!p", ""),
])  # fmt: skip
def test_terminal_escapes(text, shown):
    assert clean_terminal(text) == shown


def test_a_colour_cut_in_two_stays_one():
    terminal = Terminal()
    assert terminal.feed("stdout", "a\x1b[3") == "a"
    assert terminal.feed("stderr", "b") == "b"
    assert terminal.feed("stdout", "1mred") == "\x1b[31mred"
    assert terminal.feed("stdout", "\x1b") + terminal.feed("stdout", "]52;c;x\x07y") == "y"


@given(st.lists(st.text(alphabet="\x1b[]0;mP\\\x07\x9bA8 ?c", max_size=12), max_size=6))
@settings(max_examples=200, deadline=None)
def test_no_pieces_make_an_escape_but_colours(pieces):
    terminal = Terminal()
    whole = "".join(terminal.feed("stdout", piece) for piece in pieces)
    assert not re.sub(r"\x1b\[[0-9;:]*m", "", whole).count("\x1b")
    assert "\x9b" not in whole


def test_prompts_are_marked_and_bounded():
    assert shown_prompt("Name? ", password=False) == "Name? "
    assert shown_prompt("\x1b[2J\r\bPassword\n: ", password=True) == f"{MARK}Password : "
    assert len(shown_prompt("x" * 10_000, password=True)) < 2100


# -- hosts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("address", "granted"), [
    ("https://ok.org/x", True), ("http://ok.org:80/", True), ("https://OK.org", True), ("https://ok.org:8443/", False), ("https://p.org:8443/", True),
    ("https://p.org/", False), ("https://a.b.w.org/", True), ("https://w.org/", False), ("https://ok.org.evil/", False), ("https://ok.org@evil/", False),
    ("https://evil\\@ok.org/", False), ("//ok.org/", False), ("ftp://ok.org/", False), ("javascript://ok.org/%0ax()", False), ("https://ok.org:x/", False),
    ("https://[::1]/", False), ("https:// ok.org/", False), ("https://ok.org\x00/", False),
])  # fmt: skip
def test_granted_hosts(address, granted):
    hosts = parse_hosts("ok.org, p.org:8443 *.w.org", "test")
    assert is_granted(address, hosts) is granted


def test_a_host_that_is_none_is_named():
    with pytest.raises(Invalid, match="https://x"):
        parse_hosts("https://x/", "place")


# -- frames ------------------------------------------------------------------------------------


def test_every_script_of_a_frame_needs_the_guard():
    document = "<!doctype html><script>a</script><script type='application/json'>{}</script><script src='data:,b%20c'></script><script src=http://evil/></script>"
    inner = outer(document)
    name = re.search(r"kr_[0-9a-f]{24}", inner)[0]
    assert inner.count(f"{name}();\n") == 3
    assert "{}" in inner
    assert f"{name}();\nb c" in inner
    assert "http://evil" not in inner
    assert "'unsafe-inline'" not in re.search(r"script-src ([^;]*);", inner)[1]
    assert len(hashes_of(inner)) == 4  # the guard's own, too
    assert original(outer(document)).count("<script") == 4
    again = outer(outer(document))
    assert (again.count("kr_"), outer(again)) == (inner.count("kr_"), again)


def test_a_frames_height_is_bounded():
    assert [re.search(r'height="(\d+)"', frame("", each))[1] for each in (None, 5, 10**6, "9", True)] == [
        "480", "40", "4000", "480", "480",
    ]  # fmt: skip


# -- widgets -----------------------------------------------------------------------------------


def state_of(name: str, module: str = "@jupyter-widgets/controls", **values: object) -> dict:
    return {"_model_module": module, "_model_name": f"{name}Model", "_model_module_version": "2.0.0",
            "_view_module": module, "_view_name": f"{name}View", "_view_module_version": "2.0.0", **values}  # fmt: skip


def opened(
    widgets: Widgets, model: str, state: dict, paths: list | None = None, buffers: list | None = None
) -> dict:
    return widgets.open(
        model, {"state": state, "buffer_paths": paths or []}, [] if buffers is None else buffers
    )["state"]


def update(
    widgets: Widgets, model: str, paths: list | None = None, buffers: list | None = None, **state: object
):
    data = {"method": "update", "state": state, "buffer_paths": paths or []}
    found = widgets.message(model, data, [] if buffers is None else buffers)
    return None if found is None else found["state"]


def test_the_list_of_standard_widgets_is_the_installed_releases():
    from ipywidgets.widgets import widget

    names = {item[1].class_traits()["_model_name"].default_value for item in widget._registry.items()}
    views = {item[1].class_traits()["_view_name"].default_value for item in widget._registry.items()} - {None}
    assert {name.removesuffix("Model") for name in names} | {
        name.removesuffix("View") for name in views
    } == STANDARD


def test_every_standard_widget_passes_unchanged():
    import ipywidgets

    widgets = Widgets()
    made = [cls() for cls in (
        ipywidgets.Layout, ipywidgets.IntSlider, ipywidgets.Text, ipywidgets.HTML, ipywidgets.Button, ipywidgets.VBox, ipywidgets.Dropdown,
        ipywidgets.Output, ipywidgets.Tab, ipywidgets.Image, ipywidgets.FileUpload, ipywidgets.ColorPicker, ipywidgets.Play, ipywidgets.Label,
    )]  # fmt: skip
    for each in made:
        state, paths, buffers = ipywidgets.widgets.widget._remove_buffers(each.get_state())
        state = json.loads(json.dumps(state))  # as it comes through the wall
        before = copy.deepcopy(state)
        assert opened(widgets, each.model_id, state, paths, buffers) == before


@pytest.mark.parametrize("state", [
    state_of("Any", "anywidget", _esm="x()"), state_of("MPLCanvas", "jupyter-matplotlib"), state_of("Evil"), {},
    state_of("HTML") | {"_view_module": "https://evil/x.js"}, state_of("HTML") | {"_view_name": "Evil"}, state_of("Text", _esm="x()"),
    state_of("HTML") | {"_model_module_version": "../../evil"}, state_of("HTML") | {"_model_name": ["HTMLModel"]},
    state_of("HTML") | {"_model_module": {"a": 1}}, {"_model_name": "HTMLModel"},
])  # fmt: skip
def test_a_foreign_widget_becomes_a_note(state):
    widgets = Widgets()
    shown = opened(widgets, "m", state | {"layout": "IPY_MODEL_l1"})
    assert (shown["_model_name"], shown["_model_module"]) == ("HTMLModel", "@jupyter-widgets/controls")
    assert "not shown" in shown["value"]
    assert "_esm" not in shown
    assert update(widgets, "m", value="<img src=x onerror=x()>") is None
    assert WIDGET in clean_bundle({WIDGET: {"model_id": "m"}}, None, frozenset(), widgets)


def test_texts_of_widgets_are_cleaned_when_they_open_and_when_they_change():
    widgets = Widgets()
    evil = "<img src=x onerror=x()>a"
    assert "onerror" not in opened(widgets, "h", state_of("HTML", value=evil))["value"]
    assert "onerror" not in update(widgets, "h", value=evil, placeholder=evil)["placeholder"]
    assert update(widgets, "h", value=[evil])["value"] == ""
    assert "onerror" not in opened(widgets, "m", state_of("HTMLMath", value=evil))["value"]
    assert (
        opened(widgets, "l", state_of("Label", value=r"$\href{javascript:x}{y}$"))["value"]
        == r"$\text{javascript:x}{y}$"
    )
    assert opened(widgets, "t", state_of("Text", value=evil))["value"] == evil  # an input field's own text


def test_a_description_is_html_only_together_with_the_wish():
    widgets = Widgets()
    evil = "$<img src=x onerror=x()>$"
    assert opened(widgets, "t", state_of("Text", description=evil))["description"] == evil
    assert update(widgets, "t", description_allow_html=True) == {"description_allow_html": False}
    both = update(widgets, "t", description_allow_html=True, description=evil)
    assert both["description_allow_html"]
    assert "onerror" not in both["description"]
    assert "onerror" not in update(widgets, "t", description=evil)["description"]


def test_a_model_cannot_become_another():
    widgets = Widgets()
    opened(widgets, "t", state_of("Text"))
    assert update(widgets, "t", _model_name="HTMLModel") is None
    assert update(widgets, "t", _view_module="evil") is None
    assert update(widgets, "t", _esm="x()") is None
    assert update(widgets, "unknown", value="x") is None


def test_bytes_do_not_stand_for_texts():
    widgets = Widgets()
    assert "bytes stand" in opened(widgets, "h", state_of("HTML"), [["value"]], [b"<script>"])["value"]
    opened(widgets, "h2", state_of("HTML", value=""))
    assert update(widgets, "h2", [["value"]], [b"<script>"]) is None
    assert update(widgets, "h2", [["_view_module"]], [b"evil"]) is None
    assert update(widgets, "h2", [], [b"evil"]) is None
    assert opened(widgets, "i", state_of("Image", format="png"), [["value"]], [b"\x89PNG"])["format"] == "png"


def test_media_by_address_are_refused():
    widgets = Widgets()
    shown = opened(widgets, "i", state_of("Image", format="url"), [["value"]], [b"http://evil/p.png"])
    assert "http://evil/p.png" in shown["value"]
    opened(widgets, "j", state_of("Image", format="png"), [["value"]], [b"http://evil/p.png"])
    assert update(widgets, "j", format="url") is None
    assert update(widgets, "j", format='svg+xml"><script>') is None


def test_styles_and_classes_of_widgets():
    widgets = Widgets()
    layout = opened(
        widgets,
        "l",
        state_of(
            "Layout",
            "@jupyter-widgets/base",
            width="3px",
            border_top="1px solid",
            grid_area="url(http://evil/)",
        ),
    )
    assert (layout["width"], layout["border_top"], layout["grid_area"]) == ("3px", "1px solid", None)
    assert opened(widgets, "s", state_of("HTMLStyle", background="url(http://evil/)"))["background"] is None
    assert opened(widgets, "t", state_of("Text", _dom_classes=["mine", "jp-Dialog"]))["_dom_classes"] == [
        "mine",
        "",
    ]


@pytest.mark.parametrize(
    "pair",
    [
        ["IPY_MODEL_h", "value"],
        ["IPY_MODEL_t", "description"],
        ["IPY_MODEL_t", "_view_module"],
        ["IPY_MODEL_x", "value"],
        "x",
    ],
)
def test_links_carry_no_text_past_the_gate(pair):
    widgets = Widgets()
    opened(widgets, "t", state_of("Text"))
    opened(widgets, "h", state_of("HTML"))
    good = ["IPY_MODEL_t", "value"]
    link = state_of("Link", source=good, target=good) | {"_view_name": None}
    assert opened(widgets, "ok", link)["_model_name"] == "LinkModel"
    assert update(widgets, "ok", target=pair) is None
    assert opened(widgets, "no", link | {"target": pair})["_model_name"] == "HTMLModel"
    assert opened(widgets, "no2", link | {"source": pair})["_model_name"] == "HTMLModel"


def test_outputs_in_an_output_widget_are_outputs():
    widgets = Widgets()
    outputs = [
        {"output_type": "display_data", "data": {"text/html": "<script>x()</script>b", "application/javascript": "x()"}, "metadata": {"isolated": True}},
        {"output_type": "stream", "name": "evil", "text": "a\x1b[2J"}, {"output_type": "error", "ename": "E", "evalue": "\x1b]0;x\x07", "traceback": ["t"]},
        {"output_type": "unheard", "data": {"text/html": "<script>"}},
    ]  # fmt: skip
    module = "@jupyter-widgets/output"
    for found in (
        opened(widgets, "o", state_of("Output", module, outputs=outputs))["outputs"],
        update(widgets, "o", outputs=outputs)["outputs"],
    ):
        assert "<script" not in str(found)
        assert found[0]["metadata"] == {}
        assert "application/javascript" not in found[0]["data"]
        assert (found[1]["name"], found[1]["text"], found[2]["evalue"]) == ("stdout", "a", "")


def test_all_states_at_once_are_checked_like_each():
    widgets = Widgets()

    def whole(name: str, module: str, **values: object) -> dict:
        return {
            "model_name": f"{name}Model",
            "model_module": module,
            "model_module_version": "2.0.0",
            "state": state_of(name, module, **values),
        }

    controls = "@jupyter-widgets/controls"
    states = {
        "link": whole("Link", controls, source=["IPY_MODEL_h", "value"], target=["IPY_MODEL_h", "value"]),
        "h": whole("HTML", controls, value="<img src=x onerror=x()>"), "any": whole("Any", "anywidget", _esm="x()"),
        "i": whole("Image", controls, format="png"), "lie": whole("Text", controls) | {"model_module": "evil", "model_name": "Evil"},
    }  # fmt: skip
    buffers = [b"esm", b"\x89PNG"]
    data = {
        "method": "update_states",
        "states": states,
        "buffer_paths": [["any", "state", "_esm"], ["i", "state", "value"]],
    }
    found = widgets.states(data, buffers)
    assert found is not None
    assert (found["buffer_paths"], buffers) == ([["i", "state", "value"]], [b"\x89PNG"])
    assert "onerror" not in str(found)
    assert {each["model_module"] for each in found["states"].values()} == {controls}
    assert found["states"]["any"]["model_name"] == found["states"]["link"]["model_name"] == "HTMLModel"
    assert widgets.states({"method": "evil"}, []) is None


@pytest.mark.parametrize("content", [
    {}, None, 3, "focus", ["focus"], {"do": "open"}, {"do": ["focus"]}, {"do": "focus", "html": "<script>"}, {"event": "click"},
    {"do": {"do": "focus"}}, {"msg": {"do": "focus"}},
])  # fmt: skip
def test_custom_messages_are_those_of_the_standard_widgets(content):
    widgets = Widgets()
    widgets.open("a", {"state": state_of("Text")}, [])
    buffers = [b"x"]
    assert widgets.message("a", {"method": "custom", "content": content}, buffers) is None
    for wish in ("focus", "blur"):
        data = {"method": "custom", "content": {"do": wish}, "more": "<script>"}
        assert widgets.message("a", data, buffers) == {"method": "custom", "content": {"do": wish}}
    assert buffers == []


def test_a_strict_guest_does_not_move_the_keyboard():
    for level in Level:
        gate = Gate(level)
        model = read("comm_open", comm_id="a", target_name=WIDGET_TARGET, data={"state": state_of("Text")})
        assert gate.admit("comm_open", model, []) is not None
        wish = read("comm_msg", comm_id="a", data={"method": "custom", "content": {"do": "focus"}})
        assert (gate.admit("comm_msg", wish, [], WIDGET_TARGET) is None) == (level is Level.STRICT)


# -- the gate ----------------------------------------------------------------------------------


def read(kind: str, **content: object) -> contents.Content:
    return contents.read_published(kind, contents.encode(content))


def test_comms_are_widgets_or_a_clients_wish():
    gate = Gate(Level.PERMISSIVE)
    for target in (
        "evil",
        "kernel_runtime.usage",
        CONTROL_TARGET,
        "jupyter.widget.version",
        "hv-extension-comm",
    ):
        assert gate.admit("comm_open", read("comm_open", comm_id="a", target_name=target), []) is None
    first = read(
        "comm_open",
        comm_id="a",
        target_name=WIDGET_TARGET,
        data={"state": state_of("Text")},
        target_module="evil",
    )
    assert gate.admit("comm_open", first, []).target_module is None
    again = read("comm_open", comm_id="a", target_name=WIDGET_TARGET, data={"state": state_of("HTML")})
    assert gate.admit("comm_open", again, []) is None
    said = read("comm_msg", comm_id="a", data={"method": "custom", "content": {"do": "blur"}})
    assert gate.admit("comm_msg", said, [], None) is None
    assert gate.admit("comm_msg", said, [], WIDGET_TARGET) is said
    assert (
        gate.admit("comm_msg", read("comm_msg", comm_id="z", data={"x": 1}), [], "a-clients-own") is not None
    )
    gate.guest_died()
    assert gate.admit("comm_msg", said, [], WIDGET_TARGET) is None


@pytest.mark.parametrize("level", Level)
def test_replies_and_displays_at_every_level(level):
    gate = Gate(level)
    bad = {"text/html": "<script>x()</script>", "text/plain": "a\x1b]0;x\x07"}
    reply = {
        "status": "ok", "payload": [{"source": "page", "data": bad, "start": "x"}, {"source": "set_next_input", "text": "a\x1b[2J", "replace": True}],
        "user_expressions": {"e": {"status": "ok", "data": bad, "metadata": {}}, "f": "x", "g": {"status": "error", "ename": "E", "evalue": "\x1b[2J"}},
    }  # fmt: skip
    found = gate.admit("execute_reply", contents.read_reply("execute_reply", contents.encode(reply)), [])
    assert "<script" not in str(found)
    assert "\\x1b" not in repr(found)
    assert len(found.payload) == (1 if level is Level.STRICT else 2)
    looked = contents.read_reply(
        "inspect_reply", contents.encode({"status": "ok", "found": True, "data": bad})
    )
    assert gate.admit("inspect_reply", looked, []).data["text/plain"] == "a"
    matches = {
        "status": "ok",
        "matches": ["a"],
        "metadata": {"x": 1, "_jupyter_types_experimental": [{"text": "a", "type": "f", "evil": 1}, 3]},
    }
    completed = gate.admit(
        "complete_reply", contents.read_reply("complete_reply", contents.encode(matches)), []
    )
    assert completed.metadata == {"_jupyter_types_experimental": [{"text": "a", "type": "f"}]}
    shown = gate.admit("display_data", read("display_data", data=bad, metadata={"isolated": True}), [])
    assert ("<script" in str(shown), shown.metadata) == (False, {})
    error = gate.admit(
        "error",
        read("error", ename="\x1b[2JE", evalue="<b>\x1b]8;;x\x07", traceback=["\x1b[31mt\x1b[0m\x1b[A"]),
        [],
    )
    assert (error.ename, error.evalue, error.traceback) == ("E", "<b>", ["\x1b[31mt\x1b[0m"])

"""Widgets of a guest: the standard ones, with texts that are cleaned."""

from __future__ import annotations

import copy
import json

import pytest

from kernel_runtime.jupyter.cleaning import WIDGET, clean_bundle
from kernel_runtime.jupyter.page_widgets import STANDARD, Widgets
from tests.jupyter.models import opened, state_of, update


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

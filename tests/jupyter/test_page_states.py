"""The states that the page was told: whole or given up, never more than is allowed."""

from __future__ import annotations

import json

from kernel_runtime.jupyter import page_states
from kernel_runtime.jupyter.page_states import States
from kernel_runtime.jupyter.page_widgets import Widgets
from tests.jupyter.models import opened, state_of, update


def told(widgets: Widgets) -> dict:
    """As a page would get it."""
    states, paths, buffers = widgets.all_told()
    found = json.loads(page_states._encode(states))
    return {"states": found, "paths": paths, "buffers": buffers}


def value(widgets: Widgets, model: str, name: str = "value"):
    return told(widgets)["states"][model]["state"].get(name)


def test_what_was_told_last_is_kept_as_it_passed():
    widgets = Widgets()
    opened(widgets, "h", state_of("HTML", value="<img src=x onerror=x()>first", description="d"))
    update(widgets, "h", value="<img src=x onerror=x()>second")
    kept = told(widgets)["states"]["h"]
    assert kept["model_name"] == "HTMLModel"
    assert kept["model_module_version"] == "2.0.0"
    assert "second" in kept["state"]["value"]
    assert "onerror" not in str(kept)
    assert kept["state"]["description"] == "d"


def test_what_did_not_pass_is_not_kept():
    widgets = Widgets()
    opened(widgets, "t", state_of("Text", value="a"))
    assert update(widgets, "t", _view_module="evil", value="b") is None
    assert value(widgets, "t") == "a"
    opened(widgets, "any", state_of("Any", "anywidget", _esm="x()"))
    assert "_esm" not in told(widgets)["states"]["any"]["state"]
    update(widgets, "any", value="<b>more</b>")
    assert "not shown" in value(widgets, "any")
    widgets.close("any")
    assert set(told(widgets)["states"]) == {"t"}


def test_buffers_are_kept_with_their_values():
    widgets = Widgets()
    image = state_of("Image", format="png")
    opened(widgets, "i", image, [["value"]], [b"one"])
    opened(widgets, "j", image, [["value"]], [b"other"])
    update(widgets, "i", [["value"]], [b"two"])
    kept = told(widgets)
    assert kept["paths"] == [["i", "state", "value"], ["j", "state", "value"]]
    assert kept["buffers"] == [b"two", b"other"]
    update(widgets, "i", value="none")
    assert told(widgets)["buffers"] == [b"other"]


def test_a_link_whose_end_has_become_another_widget_is_left_out():
    """The page that is there has the old end; one that comes would let the text into the new one."""
    widgets = Widgets()
    for model in ("a", "b"):
        opened(widgets, model, state_of("Text"))
    ends = {"source": ["IPY_MODEL_a", "value"], "target": ["IPY_MODEL_b", "value"]}
    opened(widgets, "l", state_of("Link", **ends))
    assert set(told(widgets)["states"]) == {"a", "b", "l"}
    widgets.close("b")
    opened(widgets, "b", state_of("HTML"))
    assert set(told(widgets)["states"]) == {"a", "b"}


def test_all_states_told_anew_take_the_place_of_the_old():
    widgets = Widgets()
    opened(widgets, "old", state_of("Text"))
    widgets.states({"method": "update_states", "states": {"new": {"state": state_of("Text", value="v")}}}, [])
    assert set(told(widgets)["states"]) == {"new"}
    assert value(widgets, "new") == "v"


def test_beyond_the_bound_nothing_is_kept_until_all_is_told_anew():
    states = States(most=100_000)
    widgets = Widgets(held=states)
    opened(widgets, "small", state_of("Text", value="v"))
    update(widgets, "small", value="x" * 100_000)
    assert (states.whole, states.size, told(widgets)["states"]) == (False, 0, {})
    opened(widgets, "later", state_of("Text"))
    assert states.size == 0
    widgets.states({"method": "update_states", "states": {"later": {"state": state_of("Text")}}}, [])
    assert states.whole
    assert set(told(widgets)["states"]) == {"later"}


def test_each_way_to_send_much_meets_the_bound():
    def many_models(widgets: Widgets, number: int) -> None:
        opened(widgets, f"m{number}", state_of("Text"))

    def many_values(widgets: Widgets, number: int) -> None:
        update(widgets, "first", **{f"v{number}": 1})

    def many_buffers(widgets: Widgets, number: int) -> None:
        update(widgets, "image", [["value", number, n] for n in range(number)], [b""] * number)

    def long_paths(widgets: Widgets, number: int) -> None:
        update(widgets, "image", [["value", "x" * 1000 * number]], [b""])

    for way in (many_models, many_values, many_buffers, long_paths):
        states = States(most=100_000)
        widgets = Widgets(held=states)
        opened(widgets, "first", state_of("Text"))
        opened(widgets, "image", state_of("Image", format="png"))
        for number in range(1000):
            way(widgets, number)
            assert states.size <= 100_000
        assert not states.whole, way


def test_what_is_told_again_and_again_is_counted_once():
    states = States()
    widgets = Widgets(held=states)
    opened(widgets, "t", state_of("Text", value="a"))
    opened(widgets, "i", state_of("Image", format="png"), [["value"]], [b"x" * 1000])
    before = states.size
    for _ in range(100):
        update(widgets, "t", value="b")
        update(widgets, "i", [["value"]], [b"y" * 1000])
        opened(widgets, "i", state_of("Image", format="png"), [["value"]], [b"x" * 1000])
    assert before < states.size < before + 2000
    for model in ("t", "i"):
        widgets.close(model)
    assert states.size == 0

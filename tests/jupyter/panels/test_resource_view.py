"""The panel of resources: what it shows of guests, and what its buttons do to them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kernel_runtime.domain.errors import NotFound
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.usage import Usage
from kernel_runtime.jupyter.panels import charts, gauges
from kernel_runtime.jupyter.panels.gauges import Samples
from tests.jupyter.panels.boards import HOSTILE, stage
from tests.jupyter.panels.guests import FakeGuest, press, run, until


async def opened(guests: dict[str, FakeGuest], seconds: float = 3600.0) -> tuple[Any, Any, dict[str, Any]]:
    from kernel_runtime.jupyter.panels.resource_view import ResourceView

    place, ear, _ = stage()
    bundle = await place.show("r", lambda: ResourceView(lambda: guests, seconds), b"{}")
    return place.panel("r"), ear, bundle


def test_amounts_stand_beside_their_limits():
    async def story():
        guest = FakeGuest(memory=500, peak=600, cpus=0.5, pids=3, disk=0, inodes=7, cpu=2.0)
        guest.amounts["limits"] = Limits(memory=1000, cpus=2.0, pids=None)
        view, _, bundle = await opened({"a notebook": guest})
        html = view._picture.value
        for text in (
            "500 bytes",
            "of 1000 bytes",
            "0.5 cores",
            "of 2 cores",
            "not limited",
            "peak 600 bytes",
        ):
            assert text in html
        assert "Memory" in bundle["text/plain"]
        assert "500 bytes of 1000 bytes (50%)" in bundle["text/plain"]
        assert "<svg" in bundle["text/html"]
        assert "idle" in view._head.value
        guest.executing = True
        await view.look()
        assert "a cell runs" in view._head.value

    run(story)


@pytest.mark.parametrize(("used", "state"), [(500, "fine"), (850, "nearly"), (990, "full")])
def test_what_is_nearly_used_up_is_said_in_words(used, state):
    samples = Samples()
    samples.add(Usage(memory=used, limits=Limits(memory=1000)), 1.0)
    assert samples.gauges[0].state == state
    assert f'<section class="kr-gauge kr-{state}"><header>Memory' in gauges.as_html(samples)
    assert ("used up" in gauges.as_html(samples)) is (state != "fine")
    assert len(samples.warnings) == (state != "fine")


def test_a_warning_comes_once_and_again_after_it_was_less():
    samples = Samples()
    for at, used in enumerate((900, 950, 980, 100, 900)):
        samples.add(Usage(memory=used, limits=Limits(memory=1000)), float(at))
    assert [text for _, text in samples.warnings] == ["memory: 900 bytes of 1000 bytes (90%)"] * 2
    assert "warning: memory" in "\n".join(gauges.as_text(samples))


def test_open_files_are_shown_and_warned_of_as_other_amounts_are():
    samples = Samples()
    samples.add(Usage(open_files=220, limits=Limits(open_files=256)), 1.0)
    assert "Open files             220 of 256 (86%)" in gauges.as_text(samples)
    assert [text for _, text in samples.warnings] == ["open files: 220 of 256 (86%)"]


def test_bytes_over_the_network_are_charted_as_a_rate():
    samples = Samples()
    samples.add(Usage(network=0), 0.0)
    samples.add(Usage(network=4096), 2.0)
    assert next(each for each in samples.gauges if each.name == "network").note == "2 KB per second"


def test_history_is_bounded_and_a_flat_line_is_said_briefly():
    samples = Samples()
    for at in range(3 * gauges.MOST_SAMPLES):
        samples.add(Usage(memory=100, limits=Limits(memory=1000)), float(at))
    assert len(samples._points["memory"]) == gauges.MOST_SAMPLES
    assert len(gauges.as_html(samples)) < 8000


def test_a_chart_shows_the_limit_where_it_is_in_sight():
    points = [(0.0, 1.0), (1.0, 9.0), (2.0, 2.0)]
    drawn = charts.area(points, 2.0, 2.0, 10.0, 8.0)
    assert 'class="kr-limit"' in drawn
    assert re.search(r'class="kr-stroke" d="M0\.0 [\d.]+L120\.0 [\d.]+L240\.0 [\d.]+"', drawn)
    assert 'class="kr-limit"' not in charts.area(points, 2.0, 2.0, 10.0, 80.0)
    assert "NaN" not in charts.area([], 0.0, 1.0, 0.0, None)


@pytest.mark.parametrize(("amount", "top"), [(0, 1), (0.3, 0.5), (1, 1), (1.1, 2), (430, 500), (501, 1000)])
def test_charts_end_at_a_round_amount(amount, top):
    assert charts.round_up(amount) == pytest.approx(top)


def test_the_brakes():
    async def story():
        guest = FakeGuest()
        view, _, _ = await opened({"mine": guest})
        acting = view._acting
        assert view._interrupt.disabled, "no cell runs"
        assert view._share.label == "full speed"
        assert "It runs as fast as its limits allow" in await press(acting, view._throttle)
        view._share.value = 0.25
        assert "It runs with ¼ core from now on" in await press(acting, view._throttle)
        assert "2 KB of memory given back" in await press(acting, view._pause)
        assert (view._pause.description, "paused" in view._head.value) == ("Resume", True)
        assert "It goes on" in await press(acting, view._pause)
        guest.executing = True
        view._draw()
        assert "Interrupted" in await press(acting, view._interrupt)
        assert "Killed" in await press(acting, view._kill)
        assert guest.asked == [("throttle", None), ("throttle", 0.25), "interrupt", "kill"]

    run(story)


def test_one_of_several_guests_is_turned_to():
    async def story():
        view, _, _ = await opened({"a": FakeGuest(memory=100), "b": FakeGuest(memory=200)})
        assert "100 bytes" in view._picture.value
        view.turn_to("b")
        await view.look()
        assert "200 bytes" in view._picture.value
        with pytest.raises(NotFound):
            view.turn_to("c")

    run(story)


def test_a_guest_that_goes_is_no_longer_offered():
    async def story():
        guests = {"a": FakeGuest(), "b": FakeGuest()}
        view, _, _ = await opened(guests)
        assert view._which.layout.display is None
        view._which.value = "b"
        del guests["b"]
        assert "This guest is gone." in await press(view._acting, view._kill)
        await view.look()
        assert view._which.value == "a"
        assert view._which.layout.display == "none"
        guests.clear()
        await view.look()
        assert view._kill.disabled
        assert "No guest runs yet" in view._picture.value

    run(story)


def test_the_guest_in_which_a_cell_runs_is_shown_until_somebody_chooses():
    async def story():
        guests = {name: FakeGuest(memory=1) for name in "abc"}
        view, _, _ = await opened(guests)
        assert view._which.value == "a"
        guests["b"].executing = True
        await view.look()
        assert view._which.value == "b"
        assert "a cell runs" in view._head.value
        assert [label for label, _ in view._which.options] == ["a", "b ▸", "c"]
        view._which.value = "c"  # as a person does
        guests["a"].executing = True
        await view.look()
        assert view._which.value == "c"
        del guests["c"]
        await view.look()
        assert view._which.value == "a"

    run(story)


def test_it_looks_by_itself_until_it_is_closed():
    async def story():
        guest = FakeGuest(memory=1)
        view, ear, _ = await opened({"a": guest}, seconds=0.001)
        guest.amounts["memory"] = 777
        await until(lambda: "777 bytes" in view._picture.value)
        view.close()
        await until(lambda: view._ticker._task.done())
        ear.heard.clear()
        guest.amounts["memory"] = 888
        assert "777 bytes" in view._picture.value
        assert not ear.heard

    run(story)


def test_a_look_that_fails_is_followed_by_the_next(capsys):
    async def story():
        guest = FakeGuest(memory=1)
        view, _, _ = await opened({"a": guest}, seconds=0.001)
        guest.amounts["nonsense"] = 1
        await until(lambda: "nonsense" in capsys.readouterr().err)
        del guest.amounts["nonsense"]
        guest.amounts["memory"] = 555
        await until(lambda: "555 bytes" in view._picture.value)
        view.close()

    run(story)


def test_names_from_anywhere_are_only_text():
    async def story():
        guest = FakeGuest(memory=1)
        guest.partial = {HOSTILE: "x"}
        _, ear, bundle = await opened({HOSTILE: guest, "b": FakeGuest()})
        told = str([each["data"]["state"].get("value") for each in ear.contents("comm_open")])
        said = told + bundle["text/html"] + str(ear.contents("comm_msg"))
        assert "&lt;script&gt;" in said
        values = [
            m["data"]["state"].get("value") for m in ear.contents("comm_open") + ear.contents("comm_msg")
        ]
        assert not [
            value for value in values if isinstance(value, str) and "<script" in value and "<" in value[:1]
        ]
        assert "<script" not in bundle["text/html"]

    run(story)

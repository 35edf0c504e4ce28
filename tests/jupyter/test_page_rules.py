"""The gate: mime types, hosts and frames, comms and replies of a guest."""

from __future__ import annotations

import re

import pytest

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.level import Level
from kernel_runtime.jupyter import contents
from kernel_runtime.jupyter.cleaning import FRAME, WIDGET, clean_bundle, clean_metadata
from kernel_runtime.jupyter.page_frame import frame, hashes_of, original, outer
from kernel_runtime.jupyter.page_hosts import is_granted, parse_hosts
from kernel_runtime.jupyter.policy import CONTROL_TARGET, WIDGET_TARGET, Gate
from tests.jupyter.models import PNG, state_of

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


def test_a_strict_guest_does_not_move_the_keyboard():
    for level in Level:
        gate = Gate(level)
        model = read("comm_open", comm_id="a", target_name=WIDGET_TARGET, data={"state": state_of("Text")})
        assert gate.admit("comm_open", model, []) is not None
        wish = read("comm_msg", comm_id="a", data={"method": "custom", "content": {"do": "focus"}})
        assert (gate.admit("comm_msg", wish, [], WIDGET_TARGET) is None) == (level is Level.STRICT)

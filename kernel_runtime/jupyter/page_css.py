"""CSS of a guest: it may style its own output and nothing else, and load nothing.

Tokens come from tinycss2, so escapes (``\\75 rl(``) are read as a browser reads them. Properties,
functions and at-rules are lists of what passes; all else is dropped.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import tinycss2

from kernel_runtime.jupyter.page_hosts import is_own

if TYPE_CHECKING:
    from collections.abc import Iterable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Ids of a guest get this in front: they cannot stand for elements or variables of the page.
PREFIX = "kr-"
#: tinycss2 is Python: about a megabyte a second.
MAX_SHEET = 256 * 1024
MAX_INLINE = 8 * 1024
#: Of one output, so much is parsed at all.
MAX_PARSED = 512 * 1024
#: What a property may begin with, up to its first hyphen.
_PROPERTIES = _words(
    """
    align alignment aspect background baseline border bottom box caption clear clip color column columns
    content counter cursor direction display dominant empty fill filter flex float font gap grid height
    inset isolation justify left letter line list margin mask max min mix object opacity order outline
    overflow padding paint place pointer position quotes resize right row scrollbar shape stop stroke tab
    table text top transform translate rotate scale transition unicode user vector vertical visibility white
    width word writing z zoom
    """
)
#: In a drawing nothing may leave the drawing's own box, which is not contained by one around it.
_PLACING = _words(
    """
    position margin inset top left right bottom z overflow float transform translate rotate scale zoom
    perspective filter box outline border resize scrollbar columns padding
    """
)
_FUNCTIONS = _words(
    """
    rgb rgba hsl hsla hwb lab lch oklab oklch color color-mix light-dark var calc min max clamp round abs
    linear-gradient radial-gradient conic-gradient repeating-linear-gradient repeating-radial-gradient
    repeating-conic-gradient translate translatex translatey translatez translate3d scale scalex scaley
    scale3d rotate rotatex rotatey rotatez rotate3d skew skewx skewy matrix matrix3d perspective minmax
    repeat fit-content cubic-bezier steps blur brightness contrast drop-shadow grayscale hue-rotate invert
    opacity saturate sepia polygon circle ellipse inset rect path counter counters
    """
)
_POSITIONS = frozenset({"static", "relative", "absolute"})
_NO_SELECTORS = frozenset(
    {"visited", "link", "any-link", "host", "host-context", "slotted", "part", "defined"}
)
#: What tinycss2 raises for nesting without end, and for numbers of thousands of digits.
_UNREADABLE = (RecursionError, ValueError, OverflowError)
_PAGE = re.compile(r"(?::root|:host|html|body)(?![\w-])", re.IGNORECASE)


class _Work:
    """What has been parsed for the output at hand."""

    parsed = 0

    @classmethod
    def add(cls, size: int) -> None:
        """Raises ``ValueError`` (so that no cache keeps the answer) when it is too much."""
        cls.parsed += size
        if cls.parsed > MAX_PARSED:
            raise ValueError("too much CSS")


def begin() -> None:
    """Another output: it may have ``MAX_PARSED`` characters parsed."""
    _Work.parsed = 0


def clean_style(text: str, *, drawing: bool = False) -> str:
    """A ``style`` attribute with the declarations that pass; in a ``drawing`` none that places boxes."""
    if len(text) > MAX_INLINE:
        return ""
    try:
        return (_clean_short if len(text) < 300 else _clean_style)(text, drawing)
    except ValueError:
        return ""


def _clean_style(text: str, drawing: bool) -> str:
    _Work.add(len(text))
    try:
        nodes = tinycss2.parse_blocks_contents(text, skip_comments=True, skip_whitespace=True)
        return _declarations(nodes, drawing)
    except _UNREADABLE:
        return ""


_clean_short = lru_cache(2048)(_clean_style)


def value_passes(text: str) -> bool:
    """Whether ``text`` as a property's value loads nothing."""
    try:
        return len(text) <= MAX_INLINE and _loads_nothing(tinycss2.parse_component_value_list(text))
    except _UNREADABLE:
        return False


def clean_sheet(text: str, scope: str, *, drawing: bool = False) -> str:
    """A style sheet whose rules reach only what is inside the element of class ``scope``.

    Longer than ``MAX_SHEET`` characters: nothing of it passes.
    """
    if len(text) > MAX_SHEET:
        return ""
    try:
        return _clean_sheet(text, drawing).replace("\0", scope)
    except ValueError:
        return ""


@lru_cache(64)
def _clean_sheet(text: str, drawing: bool) -> str:
    """The sheet with NUL for the scope's name (a tokenizer never hands NUL out): pandas sends one again and again."""
    _Work.add(len(text))
    try:
        rules = tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True)
        return _rules(rules, drawing)
    except _UNREADABLE:
        return ""


def _rules(rules: Iterable[Any], drawing: bool) -> str:
    found = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = _selectors(rule.prelude)
            nodes = tinycss2.parse_blocks_contents(rule.content, skip_comments=True, skip_whitespace=True)
            body = _declarations(nodes, drawing)
            if selectors and body:
                found.append(f"{selectors}{{{body}}}")
        elif rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports") and rule.content:
            condition = _text(rule.prelude)
            nested = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
            inside = _rules(nested, drawing)
            if inside and condition and _loads_nothing(rule.prelude):
                found.append(f"@{rule.lower_at_keyword}{condition}{{{inside}}}")
    return "\n".join(found)


def _declarations(nodes: Iterable[Any], drawing: bool) -> str:
    found = []
    for node in nodes:
        if node.type != "declaration" or not _property_passes(node, drawing):
            continue
        value = _text(node.value, prefix=True).strip()
        if value:
            found.append(
                f"{tinycss2.serialize_identifier(node.name)}:{value}{' !important' * node.important}"
            )
    return ";".join(found)


def _property_passes(node: Any, drawing: bool) -> bool:
    name = node.lower_name
    words = name.removeprefix("-").split("-")
    head = words[-1] if name.startswith("-") and len(words) == 1 else words[name.startswith("-")]
    if not name.startswith("--") and (head not in _PROPERTIES or (drawing and head in _PLACING)):
        return False
    if name == "position":
        given = [token.lower_value for token in node.value if token.type == "ident"]
        if len(given) != 1 or given[0] not in _POSITIONS:
            return False
    if drawing and name.startswith("--") and _refers(node.value):
        return False  # who uses the variable would draw what nobody has counted
    return _loads_nothing(node.value)


def _refers(tokens: Iterable[Any]) -> bool:
    """Whether there is an address in it."""
    return any(
        token.type == "url"
        or (token.type == "function" and (token.lower_name == "url" or _refers(token.arguments)))
        or (token.type.endswith(" block") and _refers(token.content))
        for token in tokens
    )


def _loads_nothing(tokens: Iterable[Any]) -> bool:
    for token in tokens:
        kind = token.type
        if kind == "url":
            if not _address_passes(token.value):
                return False
        elif kind == "function":
            inside = [each for each in token.arguments if each.type not in ("whitespace", "comment")]
            if token.lower_name == "url":
                if len(inside) != 1 or inside[0].type != "string" or not _address_passes(inside[0].value):
                    return False
            elif token.lower_name not in _FUNCTIONS or not _loads_nothing(inside):
                return False
        elif kind in ("() block", "[] block", "{} block"):
            if not _loads_nothing(token.content):
                return False
        elif kind in ("error", "at-keyword"):
            return False
    return True


def _address_passes(address: str) -> bool:
    return is_own(address) or re.fullmatch(r"#[\w.:-]+", address) is not None


def _text(tokens: Iterable[Any], *, prefix: bool = False) -> str:
    """Tokens as text; nothing when it could be read as markup. ``url(#name)`` follows its id's prefix."""
    tokens = list(tokens)
    if prefix:
        _prefix_addresses(tokens)
    written = tinycss2.serialize(tokens)
    return "" if "<" in written or "\0" in written or "{" in written or "}" in written else written


def local(reference: str) -> str:
    """``#name`` → the same id as it stands on the page."""
    name = reference[1:]
    return "#" + (name if name.startswith(PREFIX) else PREFIX + name)


def _prefix_addresses(tokens: Iterable[Any]) -> None:
    for token in tokens:
        if token.type == "url" and token.value.startswith("#"):
            token.representation = f"url({local(token.value)})"
        elif token.type == "function" and token.lower_name == "url":
            _prefix_quoted(token)
        elif token.type == "function":
            _prefix_addresses(token.arguments)
        elif token.type.endswith(" block"):
            _prefix_addresses(token.content)


def _prefix_quoted(url: Any) -> None:
    """``url("#name")``: one string, as ``_loads_nothing`` has seen."""
    url.arguments = [each for each in url.arguments if each.type == "string"]
    for string in url.arguments:
        if string.value.startswith("#"):
            string.value = local(string.value)
            string.representation = f'"{string.value}"'


def _selectors(prelude: list[Any]) -> str:
    """The selector list, each selector below the scope; those that reach out are dropped."""
    groups: list[list[Any]] = [[]]
    for token in prelude:
        if token.type == "literal" and token.value == ",":
            groups.append([])
        else:
            groups[-1].append(token)
    return ",".join(filter(None, map(_selector, groups)))


def _selector(tokens: list[Any]) -> str:
    if not _selector_passes(tokens):
        return ""
    _prefix_ids(tokens)
    text = _text(tokens).strip()
    if not text or text[0] in "+~>|":
        return ""
    page = _PAGE.match(text)
    if page is None:
        return f".\0 {text}"
    rest = text[page.end() :]
    if re.search(r"[+~|](?!=)", rest):  # a sibling of the output is not in it
        return ""
    return f".\0{rest}"


def _selector_passes(tokens: Iterable[Any]) -> bool:
    for token in tokens:
        if token.type == "ident" and token.lower_value in _NO_SELECTORS:
            return False
        if token.type == "literal" and token.value in ("&", "@", ";"):
            return False
        if token.type in ("error", "url", "at-keyword", "{} block", "() block"):
            return False
        if token.type == "function" and (
            token.lower_name in _NO_SELECTORS or not _selector_passes(token.arguments)
        ):
            return False
    return True


def _prefix_ids(tokens: Iterable[Any]) -> None:
    for token in tokens:
        if token.type == "hash" and not token.value.startswith(PREFIX):
            token.value = PREFIX + token.value
        elif token.type == "function":
            _prefix_ids(token.arguments)

"""How much a drawing draws: what refers to other parts of it draws them once more.

Ten groups that each use the one before ten times are a hundred elements and ten thousand million
shapes: a page that draws them hangs. So what is referred to is counted as often as it may be drawn,
rather too often than too rarely.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Shapes that are drawn, each time counted: some seconds of a browser's work.
MAX_DRAWN = 500_000
_URL = re.compile(r"url\(\"?#([\w.:-]+)", re.IGNORECASE)
_RULE = re.compile(r"([^{}]*)\{([^{}]*url\([^{}]*)\}", re.IGNORECASE)
_CLASS = re.compile(r"\.([\w-]+)")
_TAG = re.compile(r"[A-Za-z]+(?![\w-])")
#: They hold for an element as a whole; all others are inherited by what stands in it.
_OF_THE_WHOLE = frozenset({"clip-path", "mask", "filter"})
#: They colour, and draw nothing.
_COLOURS = frozenset({"linearGradient", "radialGradient", "stop"})
#: Characters of a path for one corner, where a marker may stand.
_CORNER = 4


class Part(msgspec.Struct):
    """An element. ``once``: what is drawn with it; ``inherited``: what is drawn with each shape in it."""

    tag: str
    classes: frozenset[str]
    size: int
    below: list[int] = []
    once: list[str] = []
    inherited: list[str] = []

    def refer(self, name: str, value: str) -> None:
        """Note what a property of it refers to."""
        (self.once if name in _OF_THE_WHOLE else self.inherited).extend(_URL.findall(value))


class Rule(msgspec.Struct, frozen=True):
    """A rule of a style sheet that refers to parts: whom it may be about, and its declarations."""

    classes: frozenset[str]
    tags: frozenset[str]
    everybody: bool
    declarations: list[tuple[str, str]]

    def holds_for(self, part: Part) -> bool:
        return self.everybody or part.tag in self.tags or not self.classes.isdisjoint(part.classes)


class Expansion:
    """The elements of a drawing as they open and close, and what they refer to by id."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._by_id: dict[str, list[int]] = {}
        self._open: list[int] = []
        self._rules: list[Rule] = []
        self._at_corners = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element opens, with attributes as they are written."""
        path = attributes.get("d") or attributes.get("points") or ""
        part = Part(tag, frozenset(attributes.get("class", "").split()), len(path) // _CORNER)
        for name, value in attributes.items():
            if name == "href" and value.startswith("#"):
                part.once.append(value[1:])
            elif name == "style":
                for declared, given in _declarations(value):
                    self._note(part, declared, given)
            else:
                self._note(part, name, value)
        number = len(self._parts)
        self._parts.append(part)
        self._by_id.setdefault(attributes.get("id", ""), []).append(number)
        if self._open:
            self._parts[self._open[-1]].below.append(number)
        self._open.append(number)

    def end(self) -> None:
        """The element that opened last closes."""
        self._open.pop()

    def sheet(self, text: str) -> None:
        """A style sheet of the drawing, cleaned."""
        self._at_corners = self._at_corners or "marker" in text
        for selectors, body in _RULE.findall(text):
            self._rules.append(_rule(selectors, list(_declarations(body))))

    def _note(self, part: Part, name: str, value: str) -> None:
        if "url(" in value.lower():
            self._at_corners = self._at_corners or name in ("marker", "marker-mid")
            part.refer(name, value)

    def drawn(self) -> int | None:
        """How many elements are drawn, no further than a little above ``MAX_DRAWN``; None: without end, for
        something refers to what it stands in."""
        for part in self._parts if self._rules else ():
            for rule in self._rules:
                if part.tag not in _COLOURS and rule.holds_for(part):
                    for name, value in rule.declarations:
                        part.refer(name, value)
        if not any(part.once or part.inherited for part in self._parts):
            return len(self._parts)
        return self._weigh()

    def _weigh(self) -> int | None:
        """Depth first, and without recursion: each part when all that is drawn with it is known."""
        weights = [0] * len(self._parts)
        entered = [False] * len(self._parts)
        path = [(0, self._needed(0))]
        while path:
            number, needed = path[-1]
            entered[number] = True
            part = next((each for each in needed if not weights[each]), None)
            if part is None:
                weights[number] = min(self._weight(number, weights), MAX_DRAWN + 1)
                path.pop()
            elif entered[part]:
                return None
            else:
                path.append((part, self._needed(part)))
        return weights[0]

    def _weight(self, number: int, weights: list[int]) -> int:
        part = self._parts[number]
        own = 1 + (part.size if self._at_corners else 0)
        whole = own + sum(weights[each] for each in (*part.below, *self._targets(part.once)))
        return whole * (1 + sum(weights[each] for each in self._targets(part.inherited)))

    def _needed(self, number: int) -> Iterator[int]:
        part = self._parts[number]
        yield from part.below
        yield from self._targets(part.once)
        yield from self._targets(part.inherited)

    def _targets(self, names: Iterable[str]) -> Iterator[int]:
        for name in names:
            for number in self._by_id.get(name, ()):
                if self._parts[number].tag not in _COLOURS:
                    yield number


def _declarations(text: str) -> Iterator[tuple[str, str]]:
    for each in text.split(";"):
        name, _, value = each.partition(":")
        yield name.strip().lower(), value


def _rule(selectors: str, declarations: list[tuple[str, str]]) -> Rule:
    """Whom it may be about: whoever has one of the classes, or one of the tags; more than the browser finds."""
    classes: set[str] = set()
    tags: set[str] = set()
    everybody = any(sign in selectors for sign in "(\\[")
    for selector in selectors.split(","):
        _scope, *steps = re.split(r"[\s>+~]+", selector.strip())
        tag = _TAG.match(steps[-1]) if steps else None
        found = _CLASS.findall(steps[-1]) if steps else []
        if found:
            classes.update(found)
        elif tag:
            tags.add(tag[0])
        else:
            everybody = True
    return Rule(frozenset(classes), frozenset(tags), everybody, declarations)


# -- drawings in HTML ----------------------------------------------------------------------------

#: Without an id they cannot be drawn again; what keeps one there is a shape, or drawn only when it is used.
NOT_AGAIN = frozenset({"svg", "g", "use", "text", "tspan", "defs"})
_HTML_TAG = re.compile(r"<(/?)([A-Za-z][\w:-]*)((?: [^\s\"=<>]+=\"[^\"]*\")*)")
_KEEPS = frozenset({"symbol", "clipPath"})


def draws_too_much(found: str) -> bool:
    """Whether sanitised HTML, where the elements of ``NOT_AGAIN`` have no id, draws parts again within
    parts that are drawn again, or too many of them."""
    if "<use" not in found and "url(" not in found.lower():
        return False
    kept = again = within = 0
    for closing, tag, attributes in _HTML_TAG.findall(found):
        refers = tag == "use" or "url(" in attributes.lower()
        if within and refers and not (tag == "use" and "url(" not in attributes.lower() and within < _SYMBOL):
            return True
        kept += bool(within and not closing)
        again += refers
        if tag in _KEEPS:
            within += (_SYMBOL if tag == "symbol" else 1) * (-1 if closing else 1)
    sheets = sum("url(" in sheet.lower() for sheet in re.findall(r"<style>([^<]*)", found))
    return bool(sheets and kept) or again * kept > MAX_DRAWN


#: In a symbol nothing refers to another part; in a clip path a ``use`` may name a shape.
_SYMBOL = 1 << 20

"""Where a changed variable differs first.

The digests of its places form a tree; only where the two trees differ is more asked for. A place that holds places itself
(a dict in a list, an instance's attribute) is looked into the same way, some levels deep: what is told is the path.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.difference import PLACES, Change, Place
from kernel_runtime.domain.variables import MAX_PARTS, Part, Span, Variable, step_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Lines between the first and the last that differ, of which is found out which belong together.
_ALIGNED = 40
#: How many levels below a variable's own places are looked into.
DEPTH = 6


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask both states for, ``before`` and ``after``: places of the variable, or of an item of it whose path is
    ``label``. ``whole``: that item as a place, told where nothing inside is found to differ."""

    before: Span
    after: Span
    label: str = ""
    whole: Place | None = None
    is_lines: bool = False
    is_same_type: bool = True
    is_one_sided: bool = True

    def closer(self, start: int, stop: int) -> Look:
        """At some of the places alone."""
        step = step_for(stop - start)
        before, after = (
            msgspec.structs.replace(span, start=start, stop=stop, step=step)
            for span in (self.before, self.after)
        )
        return msgspec.structs.replace(self, before=before, after=after)


class Search:
    """In one changed variable. ``looks`` is what to ask both states for next; ``learn`` takes their answers. Over when
    nothing is to be asked; ``places`` are those found until then."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self._found: list[Place] = list(change.places)
        self._ahead: list[Place | Look] = []
        old, new = change.before, change.after
        if old is None or new is None or self._found:
            return
        self._found = _details(old, new)[:PLACES]
        if _is_alike(old, new):
            span = Span(name=change.name, start=0, stop=0, step=1)
            self._ahead = [_look(Look(before=span, after=span), old, new)]

    @property
    def looks(self) -> list[Look]:
        return [each for each in self._ahead if isinstance(each, Look)]

    @property
    def places(self) -> list[Place]:
        """Of what was not looked into to the end, the whole."""
        found = list(self._found)
        for each in self._ahead:
            if isinstance(each, Place):
                found.append(each)
            elif each.whole is not None and not _is_told(each, found):
                found.append(each.whole)
        return found[:PLACES]

    def learn(self, before: Sequence[Part], after: Sequence[Part]) -> None:
        """The answers to the first look."""
        look = self.looks[0]
        self._ahead.remove(look)
        found = _differing(look, before, after) if look.before.step == 1 else _closer(look, before, after)
        others = [*self._found, *self._ahead]
        if not found and look.whole is not None and not _is_told(look, others):
            found = [look.whole]
        self._ahead = [*found, *self._ahead]
        while self._ahead and isinstance(known := self._ahead[0], Place):
            self._found.append(known)
            del self._ahead[0]
        del self._ahead[0 if len(self._found) >= PLACES else PLACES :]


def _is_told(look: Look, others: Sequence[Place | Look]) -> bool:
    """Whether something inside of the same item is, or may be yet."""
    return any(other is not look and _is_within(other.label, look.label) for other in others)


def _is_within(label: str, outer: str) -> bool:
    """``.a[0]`` is within ``.a``, and ``.ab`` is not."""
    rest = label.removeprefix(outer)[:1]
    return label.startswith(outer) and not (rest.isalnum() or rest == "_")


def _is_alike(old: Variable | Part, new: Variable | Part) -> bool:
    """Whether the places of one can be compared with those of the other."""
    return bool(old.leaves and new.leaves) and (old.keyed, old.lines) == (new.keyed, new.lines)


def _look(where: Look, old: Variable | Part, new: Variable | Part) -> Look:
    """At all of the places of what stands there."""
    places = max(old.leaves, new.leaves)
    return msgspec.structs.replace(
        where,
        is_lines=old.lines,
        is_same_type=old.type == new.type,
        is_one_sided=not old.keyed or places <= MAX_PARTS,
    ).closer(0, places)


def _differing(look: Look, before: Sequence[Part], after: Sequence[Part]) -> list[Place | Look]:
    if look.is_lines:
        return list(_lines(before, after, look.label))
    old, new = ({part.label: part for part in parts} for parts in (before, after))
    found: list[Place | Look] = []
    for label in dict.fromkeys((*old, *new)):
        a, b = old.get(label), new.get(label)
        if a is None or b is None:
            if look.is_one_sided:
                found.append(Place(label=look.label + label, before=_text(a), after=_text(b)))
        elif not _is_equal(look, a, b):
            found.append(_inside(look, a, b))
    return found


def _is_equal(look: Look, a: Part, b: Part) -> bool:
    """Of another type an equal place may have another digest: then the texts count."""
    return a.digest == b.digest or (not look.is_same_type and a.text == b.text)


def _inside(look: Look, a: Part, b: Part) -> Place | Look:
    """The place, or what is to be looked at in it."""
    place = Place(label=look.label + a.label, before=a.text, after=b.text)
    if a.type != b.type or not _is_alike(a, b) or len(look.before.path) >= DEPTH:
        return place
    before, after = (
        msgspec.structs.replace(span, path=(*span.path, part.start))
        for span, part in ((look.before, a), (look.after, b))
    )
    return _look(Look(before=before, after=after, label=place.label, whole=place), a, b)


def _closer(look: Look, before: Sequence[Part], after: Sequence[Part]) -> list[Place | Look]:
    """The parts that differ, to be looked at more closely."""
    old, new = ({part.start: part for part in parts} for parts in (before, after))
    found: list[Place | Look] = []
    for start in sorted(old.keys() | new.keys()):
        parts = [side[start] for side in (old, new) if start in side]
        if len(parts) == 2 and parts[0].digest == parts[1].digest:
            continue
        stop = max(part.stop for part in parts)
        if stop > start:
            found.append(look.closer(start, stop))
    return found


def _details(old: Variable, new: Variable) -> list[Place]:
    found = []
    for label in dict.fromkeys((*old.details, *new.details)):
        before, after = old.details.get(label), new.details.get(label)
        if before != after:
            found.append(Place(label=label, before=before, after=after))
    return found


def _lines(before: Sequence[Part], after: Sequence[Part], at: str = "") -> list[Place]:
    """Lines that were changed, put in, or taken out, each beside the one that it was changed into."""
    old, new = ([part.digest for part in parts] for parts in (before, after))
    start = _common(old, new)
    stop = _common(old[start:][::-1], new[start:][::-1])
    before, after = before[start : len(old) - stop], after[start : len(new) - stop]
    found = []
    for a, b in _aligned(before, after):
        if (one := a or b) is not None:
            found.append(Place(label=at + one.label, before=_text(a), after=_text(b)))
    return found


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    """How many are the same at the beginning."""
    return next(
        (n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
    )


def _aligned(before: Sequence[Part], after: Sequence[Part]) -> Iterator[tuple[Part | None, Part | None]]:
    """Those that differ, side by side. A guest may send what takes a matcher the third power of its length."""
    if max(len(before), len(after)) > _ALIGNED:
        yield from zip_longest(before, after)
        return
    old, new = ([part.digest for part in parts] for parts in (before, after))
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            yield from zip_longest(before[a:b], after[c:d])


def _text(part: Part | None) -> str | None:
    return None if part is None else part.text

"""What differs between two states: variables added, removed, changed, and where they first differ.

The digests of a variable's places form a tree; only where the two trees differ is more asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.amounts import show_bytes
from kernel_runtime.domain.variables import MAX_PARTS, Part, Span, Variable, step_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Places that are shown of one variable; variables that are looked into.
PLACES, LOOKED_INTO = 5, 50


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One place that differs: as it is written after the variable's name, and both texts (None: it is
    not there)."""

    label: str
    before: str | None = None
    after: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One variable: ``before`` None: added, ``after`` None: removed. ``places``: where it differs
    first (at most 5)."""

    name: str
    before: Variable | None = None
    after: Variable | None = None
    places: list[Place] = []

    @property
    def kind(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        return "added" if self.before is None else "removed" if self.after is None else "changed"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Between the states ``a`` and ``b``: the changes, by name, and how many variables are the same."""

    a: str
    b: str
    changes: list[Change] = []
    same: int = 0

    def of(self, kind: str) -> list[Change]:
        """Those ``added``, ``removed`` or ``changed``."""
        return [change for change in self.changes if change.kind == kind]

    def __str__(self) -> str:
        return "\n".join(show(self))


def compare(before: Iterable[Variable], after: Iterable[Variable]) -> tuple[list[Change], int]:
    """The changes without their places, and the number of variables that are the same. One without a
    digest could not be compared: it is never the same."""
    old = {variable.name: variable for variable in before}
    new = {variable.name: variable for variable in after}
    names = sorted(name for name in old.keys() | new.keys() if not _equal(old.get(name), new.get(name)))
    changes = [Change(name=name, before=old.get(name), after=new.get(name)) for name in names]
    return changes, len(old.keys() & new.keys()) - len([c for c in changes if c.kind == "changed"])


def _equal(old: Variable | None, new: Variable | None) -> bool:
    if old is None or new is None or not old.digest:
        return False
    return (old.type, old.shape, old.digest) == (new.type, new.shape, new.digest)


class Search:
    """Where one changed variable differs first. ``spans`` is what to ask both states for next; ``learn``
    takes their answers. Over when nothing is to be asked."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.places: list[Place] = []
        self.spans: list[Span] = []
        old, new = change.before, change.after
        if old is not None and new is not None and old.leaves and new.leaves and old.keyed == new.keyed:
            places = max(old.leaves, new.leaves)
            self._one_sided = not old.keyed or places <= MAX_PARTS
            self.spans = [Span(name=change.name, start=0, stop=places, step=step_for(places))]

    def learn(self, before: Sequence[Part], after: Sequence[Part]) -> None:
        """The answers to the first span."""
        span = self.spans.pop(0)
        if span.step == 1:
            self.places += self._differing(before, after)
        else:
            self.spans = [*_within(self.change.name, before, after), *self.spans]
        if len(self.places) >= PLACES:
            del self.places[PLACES:], self.spans[:]
        del self.spans[PLACES:]

    def _differing(self, before: Sequence[Part], after: Sequence[Part]) -> list[Place]:
        old, new = ({part.label: part for part in parts} for parts in (before, after))
        found = []
        for label in dict.fromkeys((*old, *new)):
            a, b = old.get(label), new.get(label)
            if a is not None and b is not None and a.digest == b.digest:
                continue
            if (a is not None and b is not None) or self._one_sided:
                place = Place(label=label, before=_text(a), after=_text(b))
                found.append(place)
        return found


def _text(part: Part | None) -> str | None:
    return None if part is None else part.text


def _within(name: str, before: Sequence[Part], after: Sequence[Part]) -> list[Span]:
    """The parts that differ, as spans to be looked at more closely."""
    old, new = ({part.start: part for part in parts} for parts in (before, after))
    spans = []
    for start in sorted(old.keys() | new.keys()):
        parts = [side[start] for side in (old, new) if start in side]
        if len(parts) == 2 and parts[0].digest == parts[1].digest:
            continue
        stop = max(part.stop for part in parts)
        if stop > start:
            spans.append(Span(name=name, start=start, stop=stop, step=step_for(stop - start)))
    return spans


# -- as text ----------------------------------------------------------------------------------------


def show(difference: Difference) -> list[str]:
    """Lines of text: one a variable, one a place."""
    lines = [f"{difference.a} → {difference.b}: {summary(difference)}"]
    for change in difference.changes:
        lines.append(f"{_SIGNS[change.kind]} {change.name}: {describe(change)}")
        lines += [f"    {change.name}{place.label}: {show_place(place)}" for place in change.places]
    return lines


_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def summary(difference: Difference) -> str:
    """How many of each kind, in words."""
    counts = [(len(difference.of(kind)), kind) for kind in ("added", "removed", "changed")]
    told = [f"{count} {kind}" for count, kind in counts if count]
    return ", ".join([*told, f"{difference.same} the same"]) if told else "no variable differs"


def describe(change: Change) -> str:
    """Type, shape and size of one variable, of both states where they differ."""
    old, new = change.before, change.after
    if old is None or new is None:
        return outline(old or new)
    if old.leaves and (old.type, old.shape, old.size) == (new.type, new.shape, new.size):
        return outline(old)
    told, then = outline(old), outline(new)
    return f"{told} → {then}" if told != then else told


def outline(variable: Variable | None) -> str:
    """One variable in a few words."""
    if variable is None:
        return ""
    shape = f" {variable.shape}" if variable.shape else ""
    preview = f" = {variable.preview}" if variable.preview else ""
    return f"{variable.type}{shape}, {show_bytes(variable.size)}{preview}"


def show_place(place: Place) -> str:
    """Both texts of one place."""
    before, after = ("(none)" if text is None else text for text in (place.before, place.after))
    return f"{before} → {after}"

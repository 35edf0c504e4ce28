"""What differs between two states: variables added, removed, changed, and where they first differ (``search``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.amounts import show_bytes
from kernel_runtime.domain.variables import MAX_SHARES, Variable

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Places that are shown of one variable; variables that are looked into; those that are named in one line.
PLACES, LOOKED_INTO, NAMED = 5, 50, 12


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
    """Between the states ``a`` and ``b``: the changes, by name, how many variables are the same, and of
    which that could not be found out, with the reason."""

    a: str
    b: str
    changes: list[Change] = []
    same: int = 0
    uncompared: dict[str, str] = {}

    def of(self, kind: str) -> list[Change]:
        """Those ``added``, ``removed`` or ``changed``."""
        return [change for change in self.changes if change.kind == kind]

    def __str__(self) -> str:
        return "\n".join(show(self))


def compare(before: Iterable[Variable], after: Iterable[Variable], *, a: str = "", b: str = "") -> Difference:
    """Without the places of the changes. What was not read as a whole is never the same."""
    old = {variable.name: variable for variable in before}
    new = {variable.name: variable for variable in after}
    alike = {name for name in old.keys() & new.keys() if not _differ(old[name], new[name])}
    changes, uncompared = [], {}
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        if one is None or other is None or name not in alike:
            changes.append(Change(name=name, before=one, after=other))
        elif parted := _parted(one, other, alike):
            changes.append(Change(name=name, before=one, after=other, places=parted))
        elif unread := one.unread or other.unread:
            uncompared[name] = unread
    changed = sum(change.kind == "changed" for change in changes)
    same = len(old.keys() & new.keys()) - changed - len(uncompared)
    return Difference(a=a, b=b, changes=changes, same=same, uncompared=uncompared)


def _differ(old: Variable, new: Variable) -> bool:
    """Whether they do as far as both were read; one that was not at all has no digest, and says why."""
    if (old.type, old.shape) != (new.type, new.shape) and old.digest and new.digest:
        return True
    if not old.digest or not new.digest:
        return old.type != new.type or not (old.unread or new.unread)
    return old.digest != new.digest


def _parted(old: Variable, new: Variable, alike: set[str]) -> list[Place]:
    """Which variables, equal for the rest, it has or has not in common objects with any more."""
    if max(len(old.shares), len(new.shares)) >= MAX_SHARES or not (old.digest and new.digest):
        return []  # there may be more
    names = sorted(set(old.shares).symmetric_difference(new.shares) & alike)
    return [_sharing(name, old, new) for name in names[:PLACES]]


def _sharing(name: str, *sides: Variable) -> Place:
    before, after = ("yes" if name in side.shares else "no" for side in sides)
    return Place(label=f" shares an object with {name}", before=before, after=after)


# -- as text ----------------------------------------------------------------------------------------


def show(difference: Difference) -> list[str]:
    """Lines of text: one a variable, one a place."""
    lines = [f"{difference.a} → {difference.b}: {summary(difference)}"]
    for change in difference.changes:
        lines.append(f"{_SIGNS[change.kind]} {change.name}: {describe(change)}")
        lines += [f"    {change.name}{place.label}: {show_place(place)}" for place in change.places]
    return lines + show_uncompared(difference)


_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def summary(difference: Difference) -> str:
    """How many of each kind, in words."""
    counts = [(len(difference.of(kind)), kind) for kind in ("added", "removed", "changed")]
    told = [f"{count} {kind}" for count, kind in counts if count]
    told = [*told, f"{difference.same} the same"] if told else ["no variable differs"]
    unknown = [f"{len(difference.uncompared)} not compared"] if difference.uncompared else []
    return ", ".join(told + unknown)


def show_uncompared(difference: Difference) -> list[str]:
    """One line about all that could not be compared, or none."""
    told = [f"{name} ({why})" for name, why in list(difference.uncompared.items())[:NAMED]]
    more = len(difference.uncompared) - len(told)
    return [f"not compared: {', '.join(told)}{f' and {more} more' if more else ''}"] if told else []


def describe(change: Change) -> str:
    """Type, shape and size of one variable, of both states where they differ."""
    old, new = change.before, change.after
    if old is None or new is None:
        return outline(old or new)
    told, then = outline(old), outline(new)
    if old.leaves and (old.type, old.shape, old.size) == (new.type, new.shape, new.size):
        then = told
    if told != then:
        return f"{told} → {then}"
    return told if change.places else f"{told} ({_UNSEEN})"


#: Where the texts of both states are cut, and are the same.
_UNSEEN = "it differs in what is not shown here"


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
    return f"{before} → {after}" if before != after else f"{before} ({_UNSEEN})"

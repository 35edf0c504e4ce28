"""What is measured: readings come one by one, figures gather them by subject."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = "kernel_runtime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A figure's name, what it says, and its unit (``s``, ``B``, ``/s``, ``×`` or ``messages``)."""

    name: str
    what: str
    unit: str = "s"


@dataclass(frozen=True, slots=True)
class Reading:
    """One measured value of one subject (us, or a peer)."""

    figure: str
    subject: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A median with the least and the largest value behind it."""

    median: float
    least: float
    most: float
    count: int


def spread(values: list[float]) -> Spread:
    """The spread of at least one value."""
    return Spread(median=statistics.median(values), least=min(values), most=max(values), count=len(values))


@dataclass(slots=True)
class Figure:
    """All readings of one figure, by subject, in the order in which they were taken."""

    spec: Spec
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, reading: Reading) -> None:
        self.values.setdefault(reading.subject, []).append(reading.value)

    def spread(self, subject: str = OURS) -> Spread | None:
        values = self.values.get(subject)
        return spread(values) if values else None

    @property
    def peers(self) -> list[str]:
        return [subject for subject in self.values if subject != OURS]

    def ratio(self, peer: str) -> Spread | None:
        """Ours over the peer's: of the medians; least and most of the rounds taken in pairs.
        None when the peer has a zero: nothing can be so many times it."""
        if not all(self.values.get(peer, [])):
            return None
        return self._compare(peer, lambda ours, theirs: ours / theirs)

    def difference(self, peer: str) -> Spread | None:
        """Ours less the peer's, likewise."""
        return self._compare(peer, lambda ours, theirs: ours - theirs)

    def _compare(self, peer: str, compare: Callable[[float, float], float]) -> Spread | None:
        ours, theirs = self.values.get(OURS, []), self.values.get(peer, [])
        if not ours or not theirs:
            return None
        pairs = [compare(a, b) for a, b in zip(ours, theirs, strict=False)]
        median = compare(statistics.median(ours), statistics.median(theirs))
        return Spread(median=median, least=min(pairs), most=max(pairs), count=len(pairs))


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` (0–1) of them lie, interpolated."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)

"""The benchmarks and profiles by name; each registers itself where it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.figures import Reading, Spec
    from benchmarks.scale import Scale

    Measure = Callable[[Scale], Iterator[Reading]]
    Explain = Callable[[Scale], Iterator[tuple[str, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """``measure`` yields readings of its ``figures`` as it goes."""

    name: str
    figures: tuple[Spec, ...]
    measure: Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """``explain`` yields steps with their seconds: where the time of a benchmark goes."""

    name: str
    title: str
    explain: Explain


#: What this run leaves out, and why: told below the table, and in the JSON.
ABSENT: dict[str, str] = {}
BENCHMARKS: dict[str, Benchmark] = {}
PROFILES: dict[str, Profile] = {}


def benchmark(name: str, *figures: Spec) -> Callable[[Measure], Measure]:
    """Register a benchmark of these figures."""

    def register(measure: Measure) -> Measure:
        BENCHMARKS[name] = Benchmark(name=name, figures=figures, measure=measure)
        return measure

    return register


def profile(name: str, title: str) -> Callable[[Explain], Explain]:
    """Register a profile."""

    def register(explain: Explain) -> Explain:
        PROFILES[name] = Profile(name=name, title=title, explain=explain)
        return explain

    return register

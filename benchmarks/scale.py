"""How much of everything a run takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """``rounds``: how often A and B take turns; the rest are counts within one round.

    ``idle``: seconds a kernel is left alone before what is to be measured warm.
    ``state``: megabytes of variables that a checkpoint has.
    """

    name: str
    rounds: int
    cells: int
    characters: int
    lines: int
    displays: int
    flood: int
    notebook: int
    guests: int
    live: int
    idle: float
    state: int
    decisions: int


FULL = Scale(
    name="full", rounds=9, cells=100, characters=10_000_000, lines=100_000, displays=1000,
    flood=50_000, notebook=50, guests=20, live=200, idle=6.0, state=1000, decisions=20_000,
)  # fmt: skip
QUICK = Scale(
    name="quick", rounds=3, cells=50, characters=10_000_000, lines=100_000, displays=1000,
    flood=5_000, notebook=50, guests=10, live=50, idle=5.0, state=100, decisions=5_000,
)  # fmt: skip
TINY = Scale(
    name="tiny", rounds=1, cells=3, characters=1000, lines=10, displays=3,
    flood=20, notebook=2, guests=2, live=2, idle=0.1, state=2, decisions=20,
)  # fmt: skip
SCALES = {scale.name: scale for scale in (FULL, QUICK, TINY)}

"""The bars of DESIGN §9, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from benchmarks.figures import OURS

if TYPE_CHECKING:
    from benchmarks.figures import Figure

IPYKERNEL = "ipykernel"
FORK = "plain fork"
BWRAP = "bwrap + python"
BWRAP_PANDAS = "bwrap + pandas"
OUTSIDE = "outside"
LINEAR = "each in turn"
CONTROL = "less of it"
HTTPX = "direct httpx"
AIOHTTP = "direct aiohttp"
ECHO = "plain echo"
FRESH = "fresh python"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """``figure`` must stay at or under ``most`` (at or over ``least``): as a value, or as a
    ratio to or a difference from ``peer``. The median counts. ``floor``: the peer that does only what
    cannot be left out; where it misses the bar as well, the machine does, not we.
    """

    figure: str
    kind: Literal["value", "ratio", "difference"] = "ratio"
    peer: str = ""
    most: float | None = None
    least: float | None = None
    floor: str = ""

    def reached(self, figure: Figure, subject: str = OURS) -> float | None:
        """What the figure (of ``subject``) reached; None when it, or the peer, was not measured."""
        ours, theirs = figure.spread(subject), figure.spread(self.peer)
        if ours is None:
            return None
        if self.kind == "value":
            return ours.median
        if theirs is None or (self.kind == "ratio" and not all(figure.values[self.peer])):
            return None
        return ours.median / theirs.median if self.kind == "ratio" else ours.median - theirs.median

    def floor_misses(self, figure: Figure) -> bool:
        """Whether what cannot be left out takes more than the bar allows."""
        reached = self.reached(figure, self.floor) if self.floor else None
        return reached is not None and not self.holds(reached)

    def holds(self, reached: float) -> bool:
        return (self.most is None or reached <= self.most) and (self.least is None or reached >= self.least)


BARS = (
    Bar(figure="start.kernel_info", peer=IPYKERNEL, most=1.0),
    Bar(figure="start.first_result", peer=IPYKERNEL, most=1.2),
    Bar(figure="cell.p50", peer=IPYKERNEL, most=1.0),
    Bar(figure="cell.between_questions", peer=IPYKERNEL, most=1.0),
    Bar(figure="output.one_print", peer=IPYKERNEL, most=1.1),
    Bar(figure="output.lines", peer=IPYKERNEL, most=1.1),
    Bar(figure="output.displays", peer=IPYKERNEL, most=1.1),
    Bar(figure="output.lost", kind="value", most=0),
    Bar(figure="guest.first_result", peer=BWRAP_PANDAS, most=1 / 50, floor=FORK),
    Bar(figure="guest.first_result", kind="difference", peer=FORK, most=0.002),
    Bar(figure="guest.walls", kind="difference", peer=FORK, most=0.002),
    Bar(figure="pool.handout", kind="value", most=0.001),
    Bar(figure="pool.first_result", kind="difference", peer=FORK, most=0.002),
    Bar(figure="guest.private", kind="value", most=2 * 1024 * 1024, floor=FORK),
    Bar(figure="guest.copy", kind="value", most=2 * 1024 * 1024, floor=FORK),
    Bar(figure="compute.loops", peer=OUTSIDE, least=0.97),
    *(
        Bar(figure=f"interrupt.{what}", kind="value", most=0.2)
        for what in ("loop", "sleep", "input", "await")
    ),
    Bar(figure="kill.tree", kind="value", most=0.05),
    Bar(figure="kill.large_tree", kind="value", most=0.05, floor=FORK),
    Bar(figure="kill.recovery", kind="value", most=0.05),
    *(
        Bar(
            figure=f"branching.{what}.{size}",
            kind="value",
            most=most,
            floor=FORK if what in ("pause", "pause_forked", "automatic") else "",
        )
        for what, size, most in (
            ("pause", "1GB", 0.010),
            ("pause", "4GB", 0.025),
            ("pause_forked", "1GB", 0.010),
            ("pause_forked", "4GB", 0.025),
            ("restore", "1GB", 0.012),
            ("restore", "4GB", 0.030),
            ("recovery", "1GB", 0.050),
            ("automatic", "1GB", 0.010),
        )
    ),
    Bar(figure="durable.arrays_changed", kind="value", most=0.15),
    Bar(figure="durable.mix_changed", kind="value", most=1.0),
    Bar(figure="durable.pause", kind="value", most=0.015, floor=FORK),
    Bar(figure="panels.quiet", kind="difference", peer=CONTROL, most=0.01),
    Bar(figure="panels.talking", kind="difference", peer=CONTROL, most=0.01),
    Bar(figure="decide.granted", kind="value", most=20e-6),
    Bar(figure="decide.denied", kind="value", most=20e-6),
    Bar(figure="broker.call", kind="value", most=100e-6),
    Bar(figure="crowd.handler_failed", kind="value", most=0),
    Bar(figure="crowd.proxy_failed", kind="value", most=0),
)


def bars_of(name: str) -> list[Bar]:
    return [bar for bar in BARS if bar.figure == name]

"""The table for people and the JSON for machines."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks.bars import Bar, bars_of
from benchmarks.registry import ABSENT

if TYPE_CHECKING:
    from benchmarks.figures import Figure, Spread
    from benchmarks.scale import Scale

SCHEMA = 1
_TIMES = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (float("inf"), 1.0, "s"))
_SIZES = ((1024.0, 1.0, "B"), (1024.0**2, 1024.0**-1, "KiB"), (float("inf"), 1024.0**-2, "MiB"))


def show(value: float, unit: str) -> str:
    """A value with its unit, in three digits or so."""
    scales = {"s": _TIMES, "B": _SIZES}.get(unit)
    if scales is None:
        return f"{value:,.0f} {unit}".rstrip()
    for bound, factor, name in scales:
        if abs(value) < bound:
            return (
                f"{value * factor:.3g} {name}"
                if abs(value * factor) < 1000
                else f"{value * factor:.0f} {name}"
            )
    raise AssertionError(unit)


def table(figures: list[Figure]) -> Table:
    """One line per figure and peer; each number with its least and most."""
    made = Table(title="median [least … most]", title_justify="left")
    for column in ("figure", "kernel_runtime", "peer", "ratio", "bar (DESIGN §9)", ""):
        made.add_column(column, overflow="fold")
    for figure in figures:
        for row in _rows(figure):
            made.add_row(*row)
    return made


def _rows(figure: Figure) -> list[tuple[str, ...]]:
    ours, unit = figure.spread(), figure.spec.unit
    left = (f"{figure.spec.what}\n[dim]{figure.spec.name}[/dim]", _spread(ours, unit) if ours else "–")
    bars = bars_of(figure.spec.name)
    rows: list[tuple[str, ...]] = []
    for peer in figure.peers or [""]:
        theirs, ratio = figure.spread(peer), figure.ratio(peer) if peer else None
        concerned = [bar for bar in bars if bar.peer in (peer, "")]
        rows.append((
            *left,
            f"{peer} {_spread(theirs, unit)}" if theirs else "",
            f"{ratio.median:.3g} [dim][{ratio.least:.2g} … {ratio.most:.2g}][/dim]" if ratio else "",
            "\n".join(_bar(bar, figure) for bar in concerned),
            "\n".join(_verdict(bar, figure) for bar in concerned),
        ))  # fmt: skip
        left = ("", "")
    return rows


def _spread(found: Spread, unit: str) -> str:
    if found.count == 1:
        return show(found.median, unit)
    return f"{show(found.median, unit)} [dim][{show(found.least, unit)} … {show(found.most, unit)}][/dim]"


def _bar(bar: Bar, figure: Figure) -> str:
    sign, amount = ("≤", bar.most) if bar.most is not None else ("≥", bar.least)
    assert amount is not None
    if bar.kind == "ratio":
        return f"{sign} {amount:g} x"
    text = f"{sign} {show(amount, figure.spec.unit)}"
    reached = bar.reached(figure)
    if bar.kind == "value" or reached is None:
        return text
    return f"{text} over ({show(reached, figure.spec.unit)})"


def _verdict(bar: Bar, figure: Figure) -> str:
    reached = bar.reached(figure)
    if reached is None:
        return "[dim]not measured[/dim]"
    if bar.holds(reached):
        return "[green]held[/green]"
    return f"[yellow]missed, {bar.floor} too[/yellow]" if bar.floor_misses(figure) else "[red]missed[/red]"


def missed(figures: list[Figure]) -> dict[str, bool]:
    """Names of the figures that miss a bar, and whether each bar that they miss is missed by its floor, too."""
    found: dict[str, bool] = {}
    for figure in figures:
        for bar in bars_of(figure.spec.name):
            reached = bar.reached(figure)
            if reached is not None and not bar.holds(reached):
                found[figure.spec.name] = found.get(figure.spec.name, True) and bar.floor_misses(figure)
    return found


def document(
    figures: list[Figure], scale: Scale, machine: dict[str, object], failed: dict[str, str]
) -> dict[str, Any]:
    """What is written as JSON; ``docs/reference/benchmarks.md`` describes it."""
    return {
        "schema": SCHEMA,
        "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "scale": asdict(scale),
        "machine": machine,
        "figures": [_figure(figure) for figure in figures],
        "failed": failed,
        "absent": ABSENT,
    }


def _figure(figure: Figure) -> dict[str, Any]:
    subjects = {name: figure.spread(name) for name in figure.values}
    ratios = {peer: figure.ratio(peer) for peer in figure.peers}
    return {
        "name": figure.spec.name,
        "what": figure.spec.what,
        "unit": figure.spec.unit,
        "subjects": {
            name: asdict(found) | {"values": figure.values[name]} for name, found in subjects.items() if found
        },
        "ratios": {peer: asdict(ratio) for peer, ratio in ratios.items() if ratio},
        "bars": [_bar_as_data(bar, figure) for bar in bars_of(figure.spec.name)],
    }


def _bar_as_data(bar: Bar, figure: Figure) -> dict[str, Any]:
    reached = bar.reached(figure)
    found = {"kind": bar.kind, "peer": bar.peer, "most": bar.most, "least": bar.least, "reached": reached}
    held = None if reached is None else bar.holds(reached)
    return found | {"held": held, "floor": bar.floor, "floor_misses": bar.floor_misses(figure)}

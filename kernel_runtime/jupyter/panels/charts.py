"""Small area charts as SVG: amounts over the last minutes, drawn by hand, without script."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 240, 48
_TOP = 4


def area(
    points: Sequence[tuple[float, float]], now: float, span: float, top: float, limit: float | None
) -> str:
    """The amounts of ``points`` (time, amount) over the ``span`` seconds before ``now``; ``top``: the
    amount at the upper edge. A dashed line stands at the limit where it is in sight."""
    shown = [(_x(at, now, span), _y(amount, top)) for at, amount in points if at >= now - span]
    dashed = f'<path class="kr-limit" d="M0 {_y(limit, top)}H{WIDTH}"/>' if limit and limit <= top else ""
    drawn = ""
    if shown:
        line = _steps(shown)
        first, last = shown[0][0], shown[-1][0]
        drawn = (
            f'<path class="kr-area" d="{line}L{last} {HEIGHT}L{first} {HEIGHT}Z"/>'
            f'<path class="kr-stroke" d="{line}"/>'
        )
    return (
        f'<svg class="kr-chart" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="kr-base" d="M0 {HEIGHT - 0.5}H{WIDTH}"/>{dashed}{drawn}</svg>'
    )


def _steps(points: Sequence[tuple[float, float]]) -> str:
    """Through all points; where the amount did not change nothing is said twice."""
    kept = [
        point
        for place, point in enumerate(points)
        if place in (0, len(points) - 1) or not (points[place - 1][1] == point[1] == points[place + 1][1])
    ]
    return "M" + "L".join(f"{x} {y}" for x, y in kept)


def _x(at: float, now: float, span: float) -> float:
    return round(WIDTH * (1 - (now - at) / span), 1)


def _y(amount: float | None, top: float) -> float:
    share = min(1.0, (amount or 0.0) / top) if top > 0 else 0.0
    return round(HEIGHT - (HEIGHT - _TOP) * share, 1)


def round_up(amount: float) -> float:
    """A round amount that is not less: 1, 2 or 5 at the front."""
    if amount <= 0:
        return 1.0
    size = 1.0
    while size < amount:
        size *= 10
    while size / 10 >= amount:
        size /= 10
    return next(step for step in (size / 5, size / 2, size) if step >= amount)

"""What a guest uses, over the last minutes: samples, what they say, and their picture."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.amounts import show_amount, show_bytes
from kernel_runtime.domain.usage import NEARLY
from kernel_runtime.jupyter.panels import charts
from kernel_runtime.jupyter.panels.differences import escape

if TYPE_CHECKING:
    from kernel_runtime.domain.usage import Usage

#: Seconds that charts show, at most and at least; samples that are kept.
SPAN, SHORTEST, MOST_SAMPLES = 120.0, 20.0, 240
MOST_WARNINGS = 8
_FULL = 0.95


class Gauge(msgspec.Struct, frozen=True, kw_only=True):
    """One amount of a moment. ``name``: of its limit; ``shown``: what the chart follows."""

    name: str
    title: str
    used: float | None
    limit: float | None
    shown: float = 0.0
    note: str = ""

    @property
    def share(self) -> float | None:
        """Of the limit, if there is one."""
        return None if self.used is None or not self.limit else self.used / self.limit

    @property
    def state(self) -> str:
        """``full``, ``nearly`` or ``fine``."""
        share = self.share or 0.0
        return "full" if share >= _FULL else "nearly" if share >= NEARLY else "fine"

    def text(self) -> str:
        """``52 MB of 4 GB (1 %)``."""
        if self.used is None:
            return "not known here"
        used = show_amount(self.name, round(self.used, 2))
        if self.limit is None:
            return f"{used}, not limited"
        return f"{used} of {show_amount(self.name, self.limit)} ({self.share or 0:.0%})"


class Samples:
    """The samples of one guest, newest last, and the warnings that they gave rise to."""

    def __init__(self) -> None:
        self.gauges: list[Gauge] = []
        self.warnings: deque[tuple[float, str]] = deque(maxlen=MOST_WARNINGS)
        self.latest: Usage | None = None
        self._at = 0.0
        self._points: dict[str, deque[tuple[float, float]]] = {}
        self._warned: set[str] = set()

    def add(self, usage: Usage, at: float) -> None:
        """Another look at it."""
        self.gauges = _gauges(usage, self._rate(usage, at))
        self.latest, self._at = usage, at
        for gauge in self.gauges:
            points = self._points.setdefault(gauge.name, deque(maxlen=MOST_SAMPLES))
            points.append((at, gauge.shown))
            self._warn(gauge)

    def _rate(self, usage: Usage, at: float) -> float:
        """Bytes a second over the network since the last look."""
        if self.latest is None or at <= self._at:
            return 0.0
        return max(0.0, (usage.network - self.latest.network) / (at - self._at))

    def _warn(self, gauge: Gauge) -> None:
        """Once, when most of a limit is used; again after it was less."""
        if gauge.name == "cpus" or gauge.state == "fine":
            self._warned.discard(gauge.name)
        elif gauge.name not in self._warned:
            self._warned.add(gauge.name)
            self.warnings.append((time.time(), f"{gauge.title.lower()}: {gauge.text()}"))

    def chart(self, gauge: Gauge) -> str:
        points = self._points.get(gauge.name, ())
        most = max((amount for _, amount in points), default=0.0)
        limit = gauge.limit if gauge.name != "network" else None
        top = limit if limit and most >= limit / 4 else charts.round_up(1.1 * most)
        begun = points[0][0] if points else self._at
        span = min(SPAN, max(SHORTEST, self._at - begun))
        return charts.area(list(points), self._at, span, top, limit)


def _gauges(usage: Usage, rate: float) -> list[Gauge]:
    limits = usage.limits
    cores = limits.cpus or float(os.cpu_count() or 1)
    peak = f"peak {show_bytes(usage.peak)}" if usage.peak else ""
    files = "" if usage.inodes is None else f"{usage.inodes} files"
    return [
        Gauge(
            name="memory",
            title="Memory",
            used=usage.memory,
            limit=limits.memory,
            shown=usage.memory,
            note=peak,
        ),
        Gauge(name="cpus", title="CPU", used=usage.cpus, limit=cores, shown=usage.cpus, note=_cpu(usage)),
        Gauge(
            name="disk", title="Disk", used=usage.disk, limit=limits.disk, shown=usage.disk or 0, note=files
        ),
        Gauge(
            name="network",
            title="Network",
            used=usage.network,
            limit=limits.network,
            shown=rate,
            note=f"{show_bytes(rate)} per second",
        ),
        Gauge(
            name="pids", title="Processes and threads", used=usage.pids, limit=limits.pids, shown=usage.pids
        ),
        Gauge(
            name="open_files",
            title="Open files",
            used=usage.open_files,
            limit=limits.open_files,
            shown=usage.open_files or 0,
            note="of the process that has most",
        ),
        Gauge(
            name="output",
            title="Output of the cell",
            used=usage.output,
            limit=limits.output,
            shown=usage.output,
            note=_cell(usage),
        ),
    ]


def _cpu(usage: Usage) -> str:
    if usage.cell_cpu is not None and usage.limits.cpu is not None:
        return f"cell {usage.cell_cpu:.1f} of {usage.limits.cpu:g} s"
    return f"{usage.cpu:.1f} s in all"


def _cell(usage: Usage) -> str:
    if usage.cell_wall is None:
        return ""
    return f"{usage.cell_wall:.0f} s" + (f" of {usage.limits.wall:g} s" if usage.limits.wall else "")


def as_html(samples: Samples) -> str:
    """A grid of gauges, and what was warned of."""
    cells = "".join(_gauge(gauge, samples.chart(gauge)) for gauge in samples.gauges)
    lines = "".join(
        f"<li><time>{time.strftime('%H:%M:%S', time.localtime(at))}</time> {escape(text)}</li>"
        for at, text in reversed(samples.warnings)
    )
    warnings = f'<ul class="kr-warnings" aria-label="warnings">{lines}</ul>' if lines else ""
    return f'<div class="kr-gauges">{cells}</div>{warnings}'


def _gauge(gauge: Gauge, chart: str) -> str:
    share = gauge.share
    used = "not known here" if gauge.used is None else show_amount(gauge.name, round(gauge.used, 2))
    of = f"of {show_amount(gauge.name, gauge.limit)}" if gauge.limit is not None else "not limited"
    word = {"full": "used up", "nearly": "nearly used up", "fine": ""}[gauge.state]
    chip = f'<i class="kr-chip kr-{gauge.state}">{word}</i>' if word else ""
    width = min(100.0, 100 * (share or 0))
    kind = "kr-bar" if share is not None else "kr-bar kr-none"
    bar = f'<span class="{kind}"><span style="width:{width:.0f}%"></span></span>'
    return (
        f'<section class="kr-gauge kr-{gauge.state}"><header>{escape(gauge.title)}{chip}</header>'
        f'<p><b>{escape(used)}</b> <span class="kr-faint">{escape(of)}</span></p>{bar}{chart}'
        f'<footer class="kr-faint">{escape(gauge.note)}&nbsp;</footer></section>'
    )


def as_text(samples: Samples) -> list[str]:
    """One line for each amount."""
    width = max((len(gauge.title) for gauge in samples.gauges), default=0)
    lines = [f"{gauge.title:<{width}}  {gauge.text()}" for gauge in samples.gauges]
    return lines + [f"warning: {text}" for _, text in samples.warnings]

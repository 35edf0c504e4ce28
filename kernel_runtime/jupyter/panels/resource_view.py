"""The panel of resources: what each guest uses of what it may use, and the brakes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import ipywidgets

from kernel_runtime.domain.amounts import show_bytes
from kernel_runtime.domain.errors import NotFound
from kernel_runtime.jupyter.panels import gauges
from kernel_runtime.jupyter.panels.acting import Acting, Ticker, offer, row, show
from kernel_runtime.jupyter.panels.differences import escape
from kernel_runtime.jupyter.panels.gauges import Samples
from kernel_runtime.jupyter.panels.style import SHEET

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kernel_runtime.domain.usage import Usage

#: Seconds between two looks.
LOOK_SECONDS = 1.0
#: Of the processors' time; a choice whose value is None would be shown as none.
_SHARES = (("full speed", 0.0), ("1 core", 1.0), ("½ core", 0.5), ("¼ core", 0.25), ("⅒ core", 0.1))


class Watched(Protocol):
    """One guest, as the panel needs it."""

    @property
    def paused(self) -> bool: ...
    @property
    def executing(self) -> bool: ...
    @property
    def partial(self) -> dict[str, str]: ...
    async def usage(self) -> Usage: ...
    async def pause(self) -> int: ...
    def resume(self) -> None: ...
    def interrupt(self) -> None: ...
    def throttle(self, cpus: float | None) -> None: ...
    async def kill(self) -> None: ...


class ResourceView:
    """One panel for all guests; ``guests()`` says which there are, by name. It shows the one in which a cell
    runs, until somebody chooses."""

    def __init__(self, guests: Callable[[], Mapping[str, Watched]], seconds: float = LOOK_SECONDS) -> None:
        self._guests = guests
        self._samples: dict[str, Samples] = {}
        self._acting = Acting(self._draw)
        self._make_parts()
        self.root = self._assemble()
        self._chosen = self._drawing = False
        self._which.observe(lambda _: self._choose(), "value")
        self._ticker = Ticker(seconds, self.look)
        self._draw()

    # -- parts -----------------------------------------------------------------------------------

    def _make_parts(self) -> None:
        button = self._acting.button
        self._head = ipywidgets.HTML()
        self._picture = ipywidgets.HTML()
        self._which = ipywidgets.ToggleButtons(options=[]).add_class("kr-tabs")
        self._share = ipywidgets.Dropdown(options=list(_SHARES), tooltip="the share of CPU time it may have")
        self._throttle = button(
            "Throttle", "tachometer", "let it run at this share of CPU time", self._throttled
        )
        self._pause = button("Pause", "pause", "stop everything in it, and its clocks", self._paused)
        self._interrupt = button(
            "Interrupt", "stop", "KeyboardInterrupt in the running cell", self._interrupted
        )
        self._kill = button("Kill", "times", "end it now; the newest snapshot takes its place", self._killed)
        self._kill.button_style = "danger"
        self._kill.add_class("kr-gap")

    def _assemble(self) -> Any:
        actions = row(self._share, self._throttle, self._pause, self._interrupt, self._kill)
        parts = [ipywidgets.HTML(SHEET), self._head, self._which, self._picture, actions, self._acting.said]
        return ipywidgets.VBox(parts).add_class("kr-panel")

    # -- what is shown ---------------------------------------------------------------------------

    def turn_to(self, guest: str) -> None:
        """Show what this guest uses."""
        if guest not in self._guests():
            raise NotFound(f"no guest is called {guest!r}")
        self._samples.setdefault(guest, Samples())
        self._draw()
        self._which.value = guest

    async def look(self) -> None:
        """Take a sample of every guest, and show it."""
        guests = dict(self._guests())
        for name in set(self._samples) - set(guests):
            del self._samples[name]
        for name, guest in guests.items():
            self._samples.setdefault(name, Samples()).add(await guest.usage(), time.monotonic())
        self._draw()

    def still(self) -> tuple[str, str]:
        """As it is now, as text and as HTML, every guest."""
        plain, html = [], []
        for name, samples in self._samples.items():
            plain += [f"{name}: {self._standing(name)}", *gauges.as_text(samples)]
            html.append(f"{self._heading(name)}{gauges.as_html(samples)}")
        nothing = "no guest runs yet; run a cell"
        shown = "".join(html) or f"<p>{nothing}</p>"
        return "\n".join(plain) or nothing, f'{SHEET}<div class="kr-panel">{shown}</div>'

    def close(self) -> None:
        """No more looks."""
        self._ticker.close()
        self._acting.close()

    def _choose(self) -> None:
        if not self._drawing:
            self._chosen = True
            self._acting.soon(self._draw)

    def _draw(self) -> None:
        self._drawing = True
        try:
            name = self._draw_choice(list(self._samples))
        finally:
            self._drawing = False
        samples = self._samples.get(name) if name else None
        self._head.value = self._heading(name)
        self._picture.value = gauges.as_html(samples) if samples else "<p>No guest runs yet; run a cell.</p>"
        self._enable(self._guests().get(name) if name else None)

    def _draw_choice(self, names: list[str]) -> str | None:
        guests = self._guests()
        running = [name for name in names if name in guests and guests[name].executing]
        self._chosen = self._chosen and self._which.value in names
        offer(self._which, [(f"{name} ▸" if name in running else name, name) for name in names], first=True)
        show(self._which, len(names) > 1)
        if running and not self._chosen and self._which.value not in running:
            self._which.value = running[0]
        chosen: str | None = self._which.value
        return chosen

    def _enable(self, guest: Watched | None) -> None:
        able = guest is not None and self._acting.idle
        for each in (self._share, self._throttle, self._pause, self._kill):
            each.disabled = not able
        self._interrupt.disabled = not (able and guest is not None and guest.executing)
        paused = guest is not None and guest.paused
        self._pause.description, self._pause.icon = ("Resume", "play") if paused else ("Pause", "pause")

    def _heading(self, name: str | None) -> str:
        title = f"<bdi>{escape(name)}</bdi> · {escape(self._standing(name))}" if name else "no guest"
        return f'<div class="kr-head"><b>Resources</b><span>{title}</span></div>'

    def _standing(self, name: str) -> str:
        guest, samples = self._guests().get(name), self._samples.get(name)
        if guest is None:
            return "gone"
        does = "paused" if guest.paused else "a cell runs" if guest.executing else "idle"
        latest = samples.latest if samples else None
        since = f", up {_span(latest.wall)}" if latest else ""
        loose = f"; not held exactly: {', '.join(sorted(guest.partial))}" if guest.partial else ""
        return f"{does}{since}{loose}"

    # -- what is done ----------------------------------------------------------------------------

    def _guest(self) -> Watched:
        guest = self._guests().get(self._which.value)
        if guest is None:
            raise NotFound("this guest is gone")
        return guest

    async def _throttled(self) -> str:
        guest, share = self._guest(), self._share.value or None
        guest.throttle(share)
        return (
            "it runs as fast as its limits allow"
            if share is None
            else f"it runs with {self._share.label} from now on"
        )

    async def _paused(self) -> str:
        guest = self._guest()
        if guest.paused:
            guest.resume()
            return "it goes on"
        freed = await guest.pause()
        return f"paused: nothing in it runs, its clocks stand still; {show_bytes(freed)} of memory given back"

    async def _interrupted(self) -> str:
        self._guest().interrupt()
        return "interrupted; if it does not stop by itself it is killed"

    async def _killed(self) -> str:
        await self._guest().kill()
        return "killed; the newest snapshot takes its place"


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"

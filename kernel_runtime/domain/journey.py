"""Calls from app to app: who waits for whom, and until when. Known to the host alone."""

from __future__ import annotations

import msgspec

from kernel_runtime.domain.errors import Conflict, OutsideFailed

#: Apps that may wait for each other, the first caller not counted.
MAX_DEPTH = 5


class Stop(msgspec.Struct, frozen=True):
    """An app by what it calls itself, and by where it lies: that is what makes it the same one."""

    app: str
    place: str


class Journey(msgspec.Struct, frozen=True, kw_only=True):
    """``stops``: from the first caller to the app that runs. ``deadline``: of the monotonic clock; ``None``: the
    first caller waits for as long as it likes."""

    stops: tuple[Stop, ...] = ()
    deadline: float | None = None

    def on_to(self, stop: Stop, seconds: float, now: float) -> Journey:
        """The journey of a call from its last stop to ``stop`` that may take ``seconds``: never longer than is left.
        ``Conflict`` for a circle, and for too many stops."""
        chain = " → ".join(one.app for one in (*self.stops, stop))
        if any(one.place == stop.place for one in self.stops):
            raise Conflict(f"calls that go in a circle are refused: {chain}")
        if len(self.stops) > MAX_DEPTH:
            raise Conflict(f"more than {MAX_DEPTH} calls within each other are refused: {chain}")
        deadline = now + seconds if self.deadline is None else min(now + seconds, self.deadline)
        if deadline <= now:
            raise OutsideFailed(f"no time is left for the call: {chain}")
        return Journey(stops=(*self.stops, stop), deadline=deadline)

    def left(self, now: float) -> float:
        """Seconds until the deadline."""
        return float("inf") if self.deadline is None else max(0.0, self.deadline - now)

"""Time as decisions see it: given from outside, and never believed to run backwards."""

from __future__ import annotations

import msgspec

#: A clock that went back by more than this is in doubt; less is ordinary correction.
TOLERANCE = 60.0


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """``now``: seconds since 1970 by the host's clock. ``latest``: the latest such time ever seen.
    ``monotonic``: seconds of a clock that nobody sets. ``offset``: local time less UTC, in seconds.
    """

    now: float
    latest: float = 0.0
    monotonic: float = 0.0
    offset: int = 0

    @property
    def reached(self) -> float:
        """The time that has certainly come: what expired once stays expired."""
        return max(self.now, self.latest)

    @property
    def in_doubt(self) -> bool:
        """The host's clock went back: its time of day proves nothing."""
        return self.latest - self.now > TOLERANCE

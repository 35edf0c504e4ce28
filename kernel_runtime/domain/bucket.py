"""A token bucket: an amount per second, and how much of it may come at once. Has no clock."""

from __future__ import annotations


class Bucket:
    """``rate`` a second for ever, ``burst`` at once; times are given in seconds of any clock."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._filled = now

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Take ``amount`` if it is there."""
        self._fill(now)
        if self._level < amount:
            return False
        self._level -= amount
        return True

    def owe(self, now: float, amount: float) -> float:
        """Take ``amount`` in any case; the seconds to wait until it would have been there."""
        self._fill(now)
        self._level -= amount
        return -self._level / self.rate if self._level < 0 else 0.0

    def wait(self, now: float, amount: float = 1.0) -> float:
        """Seconds until ``amount`` will be there."""
        self._fill(now)
        return max(0.0, (amount - self._level) / self.rate)

    def _fill(self, now: float) -> None:
        if now > self._filled:
            self._level = min(self.burst, self._level + (now - self._filled) * self.rate)
            self._filled = now

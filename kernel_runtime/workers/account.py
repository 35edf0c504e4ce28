"""What is counted over a whole session: no restart and no new first process begins it again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kernel_runtime.domain.bucket import Bucket
from kernel_runtime.domain.errors import LimitExceeded
from kernel_runtime.domain.verdict import Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.limits import Limits

#: How much of a second's bandwidth, or of messages, may come at once: several seconds' worth.
BURST_SECONDS = 1.0
MESSAGE_SECONDS = 10.0
_RATE_SECONDS = 0.05


class Account:
    """The session's clock, the bytes carried for it, its messages, and the calls it was denied. ``network_met``: what
    was said of the last of ``refusals`` pieces that were not carried."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.began = clock()
        self.network = 0
        self.network_met: Verdict | None = None
        self.refusals = 0
        self.denied = 0
        self.output = 0
        self._clock = clock
        self._sent = 0
        self._rate = (self.began, 0, 0.0)
        self._lane = _bucket(limits.bandwidth, BURST_SECONDS, self.began)
        self.messages = _bucket(limits.messages, MESSAGE_SECONDS, self.began)

    def begin(self) -> None:
        """The session's time is counted from now on."""
        self.began = self._clock()

    @property
    def seconds(self) -> float:
        """Since the session began."""
        return self._clock() - self.began

    def now(self) -> float:
        """This account's clock."""
        return self._clock()

    def sent(self, size: int) -> None:
        """The guest sent a message of so many bytes of output."""
        self._sent += 1
        self.output += size

    def message_rate(self) -> float:
        """Messages per second since the last question (at least a moment ago)."""
        then, before, rate = self._rate
        now = self._clock()
        if now - then >= _RATE_SECONDS:
            rate = (self._sent - before) / (now - then)
            self._rate = (now, self._sent, rate)
        return rate

    def carried(self, size: int) -> float:
        """``size`` bytes are about to be carried over the network for this session.

        Returns the seconds to wait before more is carried (bandwidth). Raises ``LimitExceeded``
        when the session has used up what it may move in total: then they must not be carried.
        """
        limit = self.limits.network
        if limit is not None and self.network + size > limit:
            used, evidence = self.network + size, "bytes counted where they are carried"
            met = Verdict(reason=Reason.NETWORK, limit=limit, used=used, evidence=evidence, survived=True)
            self.network_met, self.refusals = met, self.refusals + 1
            raise LimitExceeded(met)
        self.network += size
        return 0.0 if self._lane is None else self._lane.owe(self._clock(), size)


def _bucket(rate: float | None, seconds: float, now: float) -> Bucket | None:
    return None if rate is None else Bucket(rate, rate * seconds, now)

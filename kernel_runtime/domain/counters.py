"""What was used of a rate or quota, as values: the broker keeps them, decisions read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from kernel_runtime.domain.clock import Clock
    from kernel_runtime.domain.conditions import Conditions, Rate


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """``calls`` and ``bytes`` in ``period``; ``tokens`` left in the bucket ``at`` (monotonic seconds)."""

    period: int = 0
    calls: int = 0
    bytes: int = 0
    tokens: float = 0.0
    at: float = 0.0

    def filled(self, rate: Rate, clock: Clock) -> float:
        """Tokens there now. A monotonic clock that begins anew (the host restarted) fills nothing."""
        passed = max(0.0, clock.monotonic - self.at)
        return min(float(rate.count), self.tokens + passed * rate.count / rate.seconds)

    def wait(self, rate: Rate, clock: Clock) -> float:
        """Seconds until there is a whole token; a hair is forgiven to rounding."""
        missing = 1.0 - self.filled(rate, clock)
        return missing * rate.seconds / rate.count if missing > 1e-9 else 0.0


def counted(
    before: Count | None, conditions: Conditions, clock: Clock, size: int = 0, calls: int = 1
) -> Count:
    """The count after ``calls`` more requests and ``size`` more bytes."""
    rate, quota = conditions.rate, conditions.quota
    period = quota.period(clock) if quota else 0
    fresh = before is None or before.period != period
    tokens = at = 0.0
    if rate is not None:
        left = before.filled(rate, clock) if before else float(rate.count)
        tokens, at = max(0.0, left - calls), clock.monotonic
    return Count(
        period=period,
        calls=calls if fresh or before is None else before.calls + calls,
        bytes=size if fresh or before is None else before.bytes + size,
        tokens=tokens,
        at=at,
    )

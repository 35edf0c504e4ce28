"""Whether conditions hold: for what allows, doubt means no; for what denies, doubt means yes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.conditions import NONE
from kernel_runtime.domain.matching import glob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernel_runtime.domain.clock import Clock
    from kernel_runtime.domain.conditions import Conditions
    from kernel_runtime.domain.counters import Count

#: What a path may hold to be read differently by its receiver: no pattern holds for such a value.
_DETOUR = re.compile(r"(?:^|[/\\])\.{1,2}(?:[/\\]|$)|%(?:2e|2f|5c|00|25)|[\x00-\x1f\x7f]", re.IGNORECASE)


class Failure(msgspec.Struct, frozen=True):
    """A condition that does not hold. ``wait``: seconds until it will; 0 when nobody can say."""

    reason: str
    wait: float = 0.0


def failing(
    conditions: Conditions,
    arguments: Mapping[str, str],
    tenant: str,
    size: int,
    clock: Clock,
    count: Count | None,
) -> Failure | None:
    """The first condition that does not hold, or ``None``. What cannot be known does not hold."""
    if conditions is NONE or conditions == NONE:
        return None
    if conditions.until is not None and clock.reached >= conditions.until:
        return Failure("it has expired")
    if conditions.tenants is not None and tenant not in conditions.tenants:
        return Failure(f"it is not for the tenant {tenant!r}" if tenant else "it is for named tenants only")
    if conditions.window is not None:
        if clock.in_doubt:
            return Failure("it has a time window, and the host's clock went back")
        if not conditions.window.holds(clock):
            return Failure("it is outside its time window")
    for name, pattern in conditions.arguments:
        value = arguments.get(name)
        if value is None or _DETOUR.search(value) or glob(pattern).fullmatch(value) is None:
            return Failure(f"the argument {name} does not match {pattern!r}")
    return _used_up(conditions, size, clock, count) if conditions.counts else None


def _used_up(conditions: Conditions, size: int, clock: Clock, count: Count | None) -> Failure | None:
    quota, rate = conditions.quota, conditions.rate
    if quota is not None:
        calls, used = (count.calls, count.bytes) if count and count.period == quota.period(clock) else (0, 0)
        if quota.calls is not None and calls >= quota.calls:
            return Failure(f"its quota of {quota.calls} calls ({quota.per}) is used up")
        if quota.bytes is not None and (used >= quota.bytes or used + size > quota.bytes):
            return Failure(f"its quota of {quota.bytes} bytes ({quota.per}) is used up")
    if rate is not None and count is not None:
        wait = count.wait(rate, clock)
        if wait > 0:
            return Failure(f"its rate of {rate.count} in {rate.seconds:g} s is used up", wait)
    return None


def may_hold(conditions: Conditions, arguments: Mapping[str, str], tenant: str, clock: Clock) -> bool:
    """Whether the conditions of a rule that forbids may hold: only what certainly fails lifts it."""
    if conditions is NONE or conditions == NONE:
        return True
    if conditions.until is not None and clock.now >= conditions.until and not clock.in_doubt:
        return False
    if conditions.tenants is not None and tenant and tenant not in conditions.tenants:
        return False
    if conditions.window is not None and not clock.in_doubt and not conditions.window.holds(clock):
        return False
    return all(_may_match(arguments.get(name), pattern) for name, pattern in conditions.arguments)


def _may_match(value: str | None, pattern: str) -> bool:
    return value is None or bool(_DETOUR.search(value)) or glob(pattern).fullmatch(value) is not None

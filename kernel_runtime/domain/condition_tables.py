"""Conditions as they are written → conditions as they are tested."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from kernel_runtime.domain.conditions import (
    NONE,
    Conditions,
    parse_pattern,
    parse_quota,
    parse_rate,
    parse_window,
)
from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.places import Place, Steps
    from kernel_runtime.domain.tables import ConditionTable

T = TypeVar("T")


def read_conditions(table: ConditionTable, place: Place, path: Steps) -> Conditions:
    """``Invalid`` names the place of the condition that is malformed."""

    def read(key: str, parse: Callable[[], T]) -> T:
        try:
            return parse()
        except Invalid as error:
            raise place.wrong((*path, key), str(error)) from None

    when, rate, quota, until = table.when, table.rate, table.quota, table.until
    if until is not None and until.tzinfo is None:
        raise place.wrong((*path, "until"), "write the time zone, like 2027-01-01T00:00:00Z")
    made = Conditions(
        window=read("when", lambda: parse_window(when)) if when is not None else None,
        until=until.timestamp() if until is not None else None,
        rate=read("rate", lambda: parse_rate(rate)) if rate is not None else None,
        quota=read("quota", lambda: parse_quota(quota.calls, quota.bytes, quota.per)) if quota else None,
        arguments=tuple(
            (name, read("arguments", partial(parse_pattern, text)))
            for name, text in sorted(table.arguments.items())
        ),
        tenants=None if table.tenants is None else frozenset(table.tenants),
    )
    return NONE if made == NONE else made

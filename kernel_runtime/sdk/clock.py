"""The host's time. Asks for ``clock``.

from kernel_runtime.sdk import clock

clock.now()     # a datetime with the host's offset
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from kernel_runtime.sdk.door import Ask, both

__all__ = ["anow", "now"]


def __dir__() -> list[str]:
    return __all__


def _moment(found: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(found["now"], timezone(timedelta(seconds=found["offset"])))


def _now() -> Ask[datetime]:
    """The moment by the host's clock, with the offset of its local time."""
    return Ask("clock", "now", {}, _moment)


now, anow = both(_now)

"""Conditions of a grant: time window, end, rate, quota, arguments, tenants. Values and their text forms."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.limits import parse_bytes
from kernel_runtime.domain.scopes import MAX_STARS

if TYPE_CHECKING:
    from kernel_runtime.domain.clock import Clock

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PERIODS = {"hour": 3600.0, "day": 86400.0, "total": 0.0}
_PER = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "min": 60.0,
    "minute": 60.0,
    "hour": 3600.0,
    "h": 3600.0,
    "day": 86400.0,
}
_RATE = re.compile(r"(\d{1,9})\s*/\s*([a-z]+)")
_WINDOW = re.compile(
    r"(?:(?P<days>[a-z]{3}(?:-[a-z]{3})?(?:,[a-z]{3}(?:-[a-z]{3})?)*)\s+)?"
    r"(?P<begin>\d\d:\d\d)-(?P<end>\d\d:\d\d)(?P<utc>\s+utc)?"
)


class Window(msgspec.Struct, frozen=True):
    """Days of the week (0 is Monday) and minutes of the day; past midnight it belongs to the day it began."""

    days: frozenset[int]
    begin: int
    end: int
    utc: bool = False

    @property
    def text(self) -> str:
        days = "" if len(self.days) == 7 else ",".join(DAYS[day] for day in sorted(self.days)) + " "
        return f"{days}{_clock_time(self.begin)}-{_clock_time(self.end)}{' UTC' if self.utc else ''}"

    def holds(self, clock: Clock) -> bool:
        minutes = int((clock.now + (0 if self.utc else clock.offset)) // 60)
        day, minute = (minutes // 1440 + 3) % 7, minutes % 1440
        if self.begin <= self.end:
            return day in self.days and self.begin <= minute < self.end
        if minute >= self.begin:
            return day in self.days
        return minute < self.end and (day - 1) % 7 in self.days


class Rate(msgspec.Struct, frozen=True):
    """``count`` requests in ``seconds``, and as many at once."""

    count: int
    seconds: float


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """How many calls and bytes in each period; ``total``: for ever."""

    calls: int | None = None
    bytes: int | None = None
    per: str = "total"

    @property
    def text(self) -> str:
        amounts = [f"{self.calls} calls"] if self.calls is not None else []
        amounts += [f"{self.bytes} bytes"] if self.bytes is not None else []
        return f"{' and '.join(amounts)} {'in all' if self.per == 'total' else f'per {self.per}'}"

    def period(self, clock: Clock) -> int:
        """The number of the period that the clock is in."""
        length = PERIODS[self.per]
        return int(clock.reached // length) if length else 0


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """All must hold. An empty ``tenants`` holds for nobody; ``None`` for everybody."""

    window: Window | None = None
    until: float | None = None
    rate: Rate | None = None
    quota: Quota | None = None
    arguments: tuple[tuple[str, str], ...] = ()
    tenants: frozenset[str] | None = None

    @property
    def counts(self) -> bool:
        """Whether something is counted to test it."""
        return self.rate is not None or self.quota is not None

    @property
    def text(self) -> str:
        """Always the same for the same conditions: counts are kept by it."""
        return self._joined("" if self.until is None else f"{self.until:.0f}")

    @property
    def words(self) -> str:
        """The same for a person to read."""
        return self._joined("" if self.until is None else _moment(self.until))

    def _joined(self, until: str) -> str:
        return ", ".join(part for part in _parts(self, until) if part)


NONE = Conditions()


def _moment(seconds: float) -> str:
    """``2030-01-01 00:00:00 UTC``."""
    try:
        moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (OverflowError, ValueError):  # before the first year, by its time zone, or after the last
        return f"{seconds:.0f} s after 1970"
    return f"{moment.replace(tzinfo=None).isoformat(' ', 'seconds')} UTC"


def _parts(conditions: Conditions, until: str) -> list[str]:
    window, rate, quota = conditions.window, conditions.rate, conditions.quota
    tenants = conditions.tenants
    return [
        window.text if window else "",
        f"until {until}" if until else "",
        f"{rate.count} in {rate.seconds:g} s" if rate else "",
        quota.text if quota else "",
        *(f"{name} like {pattern!r}" for name, pattern in conditions.arguments),
        f"tenants {', '.join(sorted(tenants)) or 'none'}" if tenants is not None else "",
    ]


# -- text forms -----------------------------------------------------------------------------------


def parse_window(text: str) -> Window:
    """``"Mon-Fri 08:00-18:00"``, ``"22:00-06:00 UTC"`` → ``Window``."""
    match = _WINDOW.fullmatch(text.strip().lower())
    if match is None:
        raise Invalid(
            f"{text!r} is no time window; write one like 'Mon-Fri 08:00-18:00' or '22:00-06:00 UTC'"
        )
    begin, end = _minute(match["begin"]), _minute(match["end"])
    if begin == end:
        raise Invalid(f"{text!r} is empty: it ends when it begins")
    return Window(_days(match["days"]), begin, end, match["utc"] is not None)


def _clock_time(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _minute(text: str) -> int:
    hours, minutes = int(text[:2]), int(text[3:])
    if minutes > 59 or hours * 60 + minutes > 1440:
        raise Invalid(f"{text!r} is no time of day")
    return hours * 60 + minutes


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    days: set[int] = set()
    for part in text.split(","):
        names = part.split("-")
        unknown = [name for name in names if name not in DAYS]
        if unknown:
            raise Invalid(f"{unknown[0]!r} is no day; there are {', '.join(DAYS)}")
        first, last = DAYS.index(names[0]), DAYS.index(names[-1])
        days |= {(first + step) % 7 for step in range((last - first) % 7 + 1)}
    return frozenset(days)


def parse_rate(text: str) -> Rate:
    """``"60/min"`` → ``Rate(60, 60.0)``."""
    match = _RATE.fullmatch(text.strip().lower())
    if match is None or match[2] not in _PER:
        raise Invalid(f"{text!r} is no rate; write one like 60/min (s, min, hour, day)")
    if int(match[1]) == 0:
        raise Invalid(f"{text!r} allows nothing; deny the scope instead")
    return Rate(int(match[1]), _PER[match[2]])


def parse_quota(calls: int | None, amount: str | int | None, per: str) -> Quota:
    """Calls and bytes (``"10M"``) in each ``per``."""
    if calls is None and amount is None:
        raise Invalid("a quota names calls, bytes or both")
    if per not in PERIODS:
        raise Invalid(f"{per!r} is no period; there are {', '.join(PERIODS)}")
    return Quota(calls=calls, bytes=None if amount is None else parse_bytes(amount, "bytes"), per=per)


def parse_pattern(text: str) -> str:
    """A pattern of an argument, with few wildcards."""
    if not text or len(text) > 500 or text.count("*") > MAX_STARS:
        raise Invalid(f"{text!r} is no pattern: some text with at most {MAX_STARS} times *, for anything")
    return text

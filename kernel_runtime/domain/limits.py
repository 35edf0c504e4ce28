"""Limits: how much a guest may use, and the text forms people write them in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.amounts import GIB, KIB, MIB, show_amount
from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = {"": 1, "B": 1, "K": KIB, "M": MIB, "G": GIB, "T": 1024 * GIB}
#: At most 20 digits: what people write, and nothing that becomes infinite.
_NUMBER = r"\s*(\d{1,20}(?:\.\d{1,20})?)\s*"
_BYTES = re.compile(_NUMBER + r"([KMGT]?)(?:i?B|bytes?)?\s*", re.IGNORECASE | re.ASCII)
_SECONDS = re.compile(_NUMBER + r"(ms|s|m|h|d|w|)\s*", re.IGNORECASE | re.ASCII)
_SHARE = re.compile(_NUMBER + r"(%?)\s*", re.ASCII)
_COUNT = re.compile(r"\s*\d{1,18}\s*", re.ASCII)
_PER_SECOND = re.compile(r"\s*/\s*s\s*$", re.IGNORECASE)
_DAY = 86_400.0
_SECOND_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": _DAY, "w": 7 * _DAY}

#: What happens to a cell whose output is a flood: the middle is cut and it goes on, or it is ended.
FLOODS = ("cut", "end")


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Amounts a guest may use; ``None`` means not limited.

    ``memory`` bytes of the whole session, ``cpu`` CPU seconds per cell, ``cpus`` cores' worth of
    CPU time at any moment (0.5: half a core; a guest that wants more is slowed down, not ended),
    ``wall`` seconds per cell, ``session`` seconds of the whole session, ``pids`` processes and
    threads at once, ``disk`` bytes written to the layer in memory (which counts as memory, too: at
    most half of it), ``inodes`` files and directories in that layer, ``file_size`` bytes of one
    file, ``open_files`` descriptors of one process, ``output`` bytes of output per cell,
    ``messages`` output messages per second, ``network`` bytes carried in total and ``bandwidth``
    bytes per second, by the capability ``http`` and through the proxy of its network.
    """

    memory: int | None = 4 * GIB
    cpu: float | None = None
    cpus: float | None = None
    wall: float | None = None
    session: float | None = None
    pids: int | None = 512
    disk: int = 512 * MIB
    inodes: int = 65536
    file_size: int | None = None
    open_files: int = 4096
    output: int = 64 * MIB
    messages: int | None = 1000
    network: int | None = None
    bandwidth: int | None = None

    def tightened(self, other: Limits) -> Limits:
        """The stricter of both, amount by amount."""
        values: dict[str, Any] = {}
        for name in self.__struct_fields__:
            given = [v for v in (getattr(self, name), getattr(other, name)) if v is not None]
            values[name] = min(given) if given else None
        return Limits(**values)


#: Smallest amounts with which a Python guest can still start and say what is wrong.
FLOORS: dict[str, float] = {
    "memory": 32 * MIB,
    "cpu": 0.01,
    "cpus": 0.01,
    "wall": 0.01,
    "session": 0.01,
    "pids": 4,
    "disk": 1 * MIB,
    "inodes": 256,
    "file_size": 64 * KIB,
    "open_files": 64,
    "output": 1 * KIB,
    "messages": 10,
    "network": 0,
    "bandwidth": 1 * KIB,
}
#: Limits of an app, not of a guest: a manifest names them, the broker holds them.
OF_APPS = ("storage", "api_calls")
#: Limits that every guest has: their host could be filled up or flooded without them.
ALWAYS = frozenset({"disk", "inodes", "open_files", "output"})


def parse_bytes(text: str | int, place: str = "memory") -> int:
    """``"512M"``, ``"1.5 GiB"`` or a number of bytes → bytes; ``Invalid`` names the place."""
    match = _BYTES.fullmatch(str(text))
    if match is None:
        raise Invalid(
            f"{place}: {text!r} is not an amount of bytes; write a number with K, M or G, like 512M"
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])


def parse_seconds(text: str | float, place: str = "time") -> float:
    """``"30s"``, ``"500ms"``, ``"2m"``, ``"1d"``, ``"2w"`` or a number → seconds; ``Invalid`` names the place."""
    match = _SECONDS.fullmatch(str(text))
    if match is None:
        raise Invalid(f"{place}: {text!r} is not a time; write a number with ms, s, m, h, d or w, like 30s")
    return float(match[1]) * _SECOND_UNITS[match[2].lower()]


def parse_count(text: str | int, place: str = "pids") -> int:
    """``"32"`` → 32; ``Invalid`` names the place."""
    if not _COUNT.fullmatch(str(text)):
        raise Invalid(f"{place}: {text!r} is not a whole number, like 32")
    return int(text)


def parse_share(
    text: str | float, place: str = "cpus", wanted: str = "a share of CPU time; write cores, like 0.5 or 50%"
) -> float:
    """``"0.5"``, ``"50%"`` or a number → cores' worth of CPU time; ``Invalid`` names the place, and what is ``wanted``."""
    match = _SHARE.fullmatch(str(text))
    if match is None:
        raise Invalid(f"{place}: {text!r} is not {wanted}")
    return float(match[1]) / (100 if match[2] else 1)


def parse_rate(text: str | int, place: str = "messages") -> int:
    """``"1000"`` or ``"1000/s"`` → 1000; ``Invalid`` names the place."""
    return parse_count(_PER_SECOND.sub("", str(text)), place)


def parse_bandwidth(text: str | int, place: str = "bandwidth") -> int:
    """``"1M"`` or ``"1M/s"`` → bytes per second; ``Invalid`` names the place."""
    return parse_bytes(_PER_SECOND.sub("", str(text)), place)


def parse_flood(text: str, place: str = "flood") -> str:
    """``"cut"`` or ``"end"``; ``Invalid`` names the place."""
    flood = text.strip().lower()
    if flood not in FLOODS:
        raise Invalid(f"{place}: {text!r} is not known; choose one of {', '.join(FLOODS)}")
    return flood


_PARSERS: dict[str, Callable[[Any, str], float]] = {
    "memory": parse_bytes,
    "disk": parse_bytes,
    "output": parse_bytes,
    "cpu": parse_seconds,
    "wall": parse_seconds,
    "pids": parse_count,
    "cpus": parse_share,
    "session": parse_seconds,
    "inodes": parse_count,
    "file_size": parse_bytes,
    "open_files": parse_count,
    "messages": parse_rate,
    "network": parse_bytes,
    "bandwidth": parse_bandwidth,
}


def parse_limits(amounts: dict[str, object], base: Limits | None = None, place: str = "limits") -> Limits:
    """Text amounts by name → ``Limits`` over ``base``; ``none`` lifts a limit that may be lifted."""
    values = msgspec.structs.asdict(base or Limits())
    for name, text in amounts.items():
        if name not in _PARSERS:
            raise Invalid(f"{place}: no limit is called {name!r}; there are {', '.join(_PARSERS)}")
        if str(text).strip().lower() == "none" and name not in ALWAYS:
            values[name] = None
            continue
        amount = _PARSERS[name](text, f"{place}.{name}")
        if amount < FLOORS[name]:
            raise Invalid(
                f"{place}.{name}: {text} is below {show_amount(name, FLOORS[name])}, "
                "the least a guest can live with"
            )
        values[name] = amount
    return Limits(**values)

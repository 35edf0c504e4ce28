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
_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)
_SECONDS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|)\s*", re.IGNORECASE)
_SECOND_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Amounts a guest may use; ``None`` means not limited.

    ``memory`` bytes of the whole session, ``cpu`` CPU seconds per cell, ``wall`` seconds
    per cell, ``pids`` processes and threads at once, ``disk`` bytes written to the layer
    in memory (which counts as memory, too: at most half of it), ``output`` bytes of output per cell.
    """

    memory: int | None = 4 * GIB
    cpu: float | None = None
    wall: float | None = None
    pids: int | None = 512
    disk: int = 512 * MIB
    output: int = 64 * MIB

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
    "wall": 0.01,
    "pids": 4,
    "disk": 1 * MIB,
    "output": 1 * KIB,
}


def parse_bytes(text: str | int, place: str = "memory") -> int:
    """``"512M"``, ``"1.5 GiB"`` or a number of bytes → bytes; ``Invalid`` names the place."""
    match = _BYTES.fullmatch(str(text))
    if match is None:
        raise Invalid(
            f"{place}: {text!r} is not an amount of bytes; write a number with K, M or G, like 512M"
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])


def parse_seconds(text: str | float, place: str = "time") -> float:
    """``"30s"``, ``"500ms"``, ``"2m"`` or a number → seconds; ``Invalid`` names the place."""
    match = _SECONDS.fullmatch(str(text))
    if match is None:
        raise Invalid(f"{place}: {text!r} is not a time; write a number with ms, s, m or h, like 30s")
    return float(match[1]) * _SECOND_UNITS[match[2].lower()]


def parse_count(text: str | int, place: str = "pids") -> int:
    """``"32"`` → 32; ``Invalid`` names the place."""
    if not re.fullmatch(r"\s*\d+\s*", str(text)):
        raise Invalid(f"{place}: {text!r} is not a whole number, like 32")
    return int(text)


_PARSERS: dict[str, Callable[[Any, str], float]] = {
    "memory": parse_bytes,
    "disk": parse_bytes,
    "output": parse_bytes,
    "cpu": parse_seconds,
    "wall": parse_seconds,
    "pids": parse_count,
}


def parse_limits(amounts: dict[str, object], base: Limits | None = None, place: str = "limits") -> Limits:
    """Text amounts by name → ``Limits`` over ``base``; ``none`` lifts a limit that may be lifted."""
    values = msgspec.structs.asdict(base or Limits())
    for name, text in amounts.items():
        if name not in _PARSERS:
            raise Invalid(f"{place}: no limit is called {name!r}; there are {', '.join(_PARSERS)}")
        if str(text).strip().lower() == "none" and name not in ("disk", "output"):
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

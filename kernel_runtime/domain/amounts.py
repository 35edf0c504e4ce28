"""Amounts as people read them."""

from __future__ import annotations

KIB, MIB, GIB = 1024, 1024**2, 1024**3
#: Bytes that a message takes besides its content (header, parent, signature): about this much.
MESSAGE_OVERHEAD = 600
_BYTES = frozenset({"memory", "disk", "output", "file_size", "network"})
_SECONDS = frozenset({"cpu", "wall", "session"})


def is_whole(text: str) -> bool:
    """Whether it is nothing but digits from 0 to 9: ``isdigit`` holds for ``²``, and ``int`` reads those of any script."""
    return text.isascii() and text.isdecimal()


def counted(number: int, thing: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def show_bytes(amount: float) -> str:
    """Bytes as people read them: ``1.5 GB``."""
    for unit, size in (("TB", 1024 * GIB), ("GB", GIB), ("MB", MIB), ("KB", KIB)):
        if amount >= size:
            return f"{round(amount / size, 2 if amount < 100 * size else 0):g} {unit}"
    return "1 byte" if round(amount) == 1 else f"{amount:.0f} bytes"


def show_amount(name: str, amount: float | None) -> str:
    """An amount of the limit ``name`` as people read it."""
    if amount is None:
        return "not limited"
    if name in _BYTES:
        return show_bytes(amount)
    if name in _SECONDS:
        return f"{amount:.4g} s"
    if name == "cpus":
        return f"{amount:.4g} cores"
    if name == "messages":
        return f"{amount:.0f} per second"
    if name == "bandwidth":
        return f"{show_bytes(amount)} per second"
    return f"{amount:.0f}"

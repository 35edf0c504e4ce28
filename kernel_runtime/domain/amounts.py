"""Amounts as people read them."""

from __future__ import annotations

KIB, MIB, GIB = 1024, 1024**2, 1024**3


def show_bytes(amount: float) -> str:
    """Bytes as people read them: ``1.5 GB``."""
    for unit, size in (("TB", 1024 * GIB), ("GB", GIB), ("MB", MIB), ("KB", KIB)):
        if amount >= size:
            return f"{round(amount / size, 2 if amount < 100 * size else 0):g} {unit}"
    return f"{amount:.0f} bytes"


def show_amount(name: str, amount: float | None) -> str:
    """An amount of the limit ``name`` as people read it."""
    if amount is None:
        return "not limited"
    if name in ("memory", "disk", "output"):
        return show_bytes(amount)
    if name in ("cpu", "wall"):
        return f"{amount:.4g} s"
    return f"{amount:.0f}"

"""Levels: how much a guest is walled in."""

from __future__ import annotations

import enum

from kernel_runtime.domain.errors import Invalid


class Level(enum.StrEnum):
    """``strict``: every wall, no subprocess, no host files. ``moderate``: every wall, full
    Python, the directory readable. ``permissive``: walls this host lacks are named, not required.
    """

    STRICT = "strict"
    MODERATE = "moderate"
    PERMISSIVE = "permissive"

    @property
    def rank(self) -> int:
        """0 is the strictest."""
        return list(Level).index(self)


def parse_level(text: str, place: str = "level") -> Level:
    """``"strict"`` → ``Level.STRICT``; ``Invalid`` names the place and the choices."""
    try:
        return Level(text.strip().lower())
    except ValueError:
        choices = ", ".join(Level)
        raise Invalid(f"{place}: {text!r} is not a level; choose one of {choices}") from None

"""Levels: how much a guest is walled in."""

from __future__ import annotations

import enum

from kernel_runtime.domain.errors import Invalid


class Level(enum.StrEnum):
    """``strict``: every wall, starts no programs (it may fork), no host files. ``moderate``: every wall, full
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


class Rung(enum.StrEnum):
    """How strong the walls of this host can be. ``namespaces``: all of them. ``landlock``: what a
    host without user namespaces still gives (Landlock, system-call filter, resource limits).
    """

    NAMESPACES = "namespaces"
    LANDLOCK = "landlock"


def parse_rung(text: str, place: str = "rung") -> Rung:
    """``"landlock"`` → ``Rung.LANDLOCK``; ``Invalid`` names the place and the choices."""
    try:
        return Rung(text.strip().lower())
    except ValueError:
        choices = ", ".join(Rung)
        raise Invalid(f"{place}: {text!r} is not a rung; choose one of {choices}") from None

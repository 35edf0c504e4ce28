"""Who is held while others work on what came from it."""

from __future__ import annotations


class Held:
    """``holds``: how often it is held now; ``troubles``: what it was ended for."""

    def __init__(self) -> None:
        self.holds = 0
        self.troubles: list[Exception] = []

    def hold(self) -> None:
        self.holds += 1

    def go_on(self) -> None:
        self.holds -= 1

    def trouble(self, error: Exception) -> None:
        self.troubles.append(error)

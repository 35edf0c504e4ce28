"""What the copies before cells cost, against the computing that they save: whether the next one pays."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel_runtime.domain.snapshot import Budget

#: How fast the cost of a copy that was once expensive is forgotten.
FORGET = 0.9
#: Of so many copies the cheapest is what the next one will cost: one slow moment of the host says nothing.
_LATEST = 3


class Cost:
    """``seconds`` is what the next copy is expected to cost."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._computed = 0.0
        self._latest: deque[float] = deque(maxlen=_LATEST)

    def paid(self, seconds: float) -> None:
        """A copy was made."""
        self._latest.append(seconds)
        self.seconds, self._computed = min(self._latest), 0.0

    def computed(self, seconds: float) -> None:
        """Cells have computed since the last copy."""
        self._computed += seconds

    def pays(self, budget: Budget) -> bool:
        """Whether to make the next one now: it costs at most its share of what it saves, or its pause."""
        return self.seconds <= max(budget.pause, budget.share * self._computed)

    def forget(self) -> None:
        """One was left out: some time the next one is tried all the same."""
        self.seconds *= FORGET

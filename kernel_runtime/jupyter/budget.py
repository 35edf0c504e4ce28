"""One cell's output against its limit: the head passes, the middle is counted, a tail is kept."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import KIB, MIB, show_bytes
from kernel_runtime.jupyter.outbox import omitted
from kernel_runtime.jupyter.outgoing import stream

if TYPE_CHECKING:
    from kernel_runtime.jupyter.outgoing import Outgoing


class OutputBudget:
    """Admits ``limit`` bytes of droppable output; afterwards keeps the last of it.

    ``admit`` returns what to publish now, ``finish`` what to publish at the cell's end: the
    notice with the counts, then the tail.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._tail_limit = min(max(limit // 8, KIB), MIB)
        self._left = limit - self._tail_limit
        self._tail: deque[Outgoing] = deque()
        self._tail_size = 0
        self._parent = b"{}"
        self._count = 0
        self._size = 0

    @property
    def spent(self) -> bool:
        """Whether output is being held back."""
        return self._left < 0

    def admit(self, out: Outgoing) -> list[Outgoing]:
        """What to publish in place of ``out``."""
        if not out.droppable:
            return [out]
        if self._left >= 0:
            self._left -= out.size
            if self._left >= 0:
                return [out]
            self._keep(out)
            return [stream("stderr", [self._first_notice()], out.parent)]
        self._keep(out)
        return []

    def finish(self) -> list[Outgoing]:
        """The notice and the tail; the budget starts again (for what background work prints)."""
        result: list[Outgoing] = []
        if self._count:
            text = omitted(self._count, self._size, f"limit {show_bytes(self.limit)} per cell, see %limits")
            result.append(stream("stderr", [text], self._parent))
        result += self._tail
        self.__init__(self.limit)  # type: ignore[misc] # as at its beginning
        return result

    def _keep(self, out: Outgoing) -> None:
        tail = self._tail
        self._parent = out.parent
        if tail and tail[-1].takes(out):
            tail[-1].append(out)
        else:
            tail.append(out)
        self._tail_size += out.size
        while self._tail_size > self._tail_limit:  # one that is larger alone is not kept, either
            gone = tail.popleft()
            self._tail_size -= gone.size
            self._count += gone.count
            self._size += gone.size

    def _first_notice(self) -> str:
        return (
            f"\n[kernel_runtime: the output limit of {show_bytes(self.limit)} per cell is reached; "
            "what follows is held back, its end is shown when the cell ends]\n"
        )

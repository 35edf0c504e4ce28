"""Room to speak for a branch whose memory is used up.

Code that gets a MemoryError still holds what it has allocated. Formatting the error and sending
it takes memory, too; without any the answer would never come. So cells run under a soft limit,
which is lifted to the hard one for what the shell does after them.
"""

from __future__ import annotations

import resource

from kernel_runtime.domain.amounts import MIB

#: Of the hard limit, what pid 1 needs to breathe.
_REST = 4 * MIB


def reserve(memory: int) -> int:
    """Bytes of a session's memory that are no cell's: for pid 1, page tables, files and the answer."""
    return min(64 * MIB, memory // 16) + min(16 * MIB, memory // 8)


def limit_data(held: int, memory: int, counted: int = 0) -> None:
    """RLIMIT_DATA for a live branch that holds ``held`` bytes of data of a session's ``memory``. ``counted``: how
    many of them the limit counts as well, or the MemoryError would come after the end."""
    soft = held + memory - reserve(memory) - min(counted, memory // 4)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, soft + max(0, reserve(memory) - _REST)))


class Headroom:
    """Whether cells may use what is reserved for the answer."""

    def __init__(self) -> None:
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_DATA)

    def close(self) -> None:
        """A cell begins."""
        self._set(self._soft)

    def open(self) -> None:
        """Its memory is used up, or it is over."""
        self._set(self._hard)

    def _set(self, soft: int) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)  # the cell's code may have lowered it
        limit = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))

"""The system calls that were denied to a session, told to the cells that ran meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel_runtime import wire
    from kernel_runtime.workers.account import Account
    from kernel_runtime.workers.branch import Pending

#: In ``Session.info``, where denied system calls cannot be named.
UNNAMED = "not named: the kernel, or a container around it, gives no seccomp listener"
#: Different denied calls that are remembered of a session.
_MAX_DENIED = 256


class Denials:
    """Every denied call is counted in the account; ``calls`` are the different ones, in order."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._calls: dict[str, None] = {}

    @property
    def calls(self) -> list[str]:
        return list(self._calls)

    def record(self, frame: wire.Denied, running: list[Pending]) -> None:
        """A call was denied while these cells ran; which of them made it, nobody can tell."""
        self._account.denied += 1
        if len(self._calls) < _MAX_DENIED:
            self._calls[frame.call] = None
        for pending in running:
            pending.deny(frame)

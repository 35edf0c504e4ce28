"""A copy of the present state, made ahead while the session rests: the next snapshot of it (before a cell, or asked for),
unless it has changed by then.

Only a state that nothing but an order can change is copied so; and any order makes the copy worthless as that. It is still
the newest moment to come back to, if its process ends before another cell begins: where there is none, one is made before
what is asked of the session and is no cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.freezing import Order


class Present:
    """At most one; it is no snapshot before it is taken."""

    def __init__(self) -> None:
        self._order: Order | None = None
        self._branch: Branch | None = None
        self._asked = 0

    @property
    def pids(self) -> set[int]:
        """Its process, as far as it is known."""
        return self._order.frozen.pids if self._order is not None else set()

    @property
    def is_there(self) -> bool:
        """Whether there is one, or it is being made."""
        return self._order is not None

    def is_of(self, branch: Branch) -> bool:
        """Whether there is one, of what the branch is now."""
        return self._is_whole and branch is self._branch and branch.asked == self._asked

    @property
    def _is_whole(self) -> bool:
        order = self._order
        if order is None or order.said is None or order.said.error or order.frozen.gone:
            return False
        return bool(order.frozen.pid)

    def keep(self, order: Order, branch: Branch) -> Awaitable[None]:
        """The copy that has just been ordered is it; to be awaited, which raises what prevents it."""
        self.drop()
        self._order, self._branch, self._asked = order, branch, branch.asked
        return self._made(order)

    async def _made(self, order: Order) -> None:
        try:
            await order.made()
        except BaseException:
            if self._order is order:
                self.drop()
            raise

    def take(self, branch: Branch) -> Order | None:
        """It is somebody's now; None, and none is left, if it is not of what the branch is now."""
        if not self.is_of(branch):
            self.drop()
        return self._given()

    def take_last(self) -> Order | None:
        """It is somebody's now, though it has been asked for something since: the process that it was made of has ended."""
        if not self._is_whole:
            self.drop()
        return self._given()

    def _given(self) -> Order | None:
        order, self._order, self._branch = self._order, None, None
        return order

    def drop(self) -> None:
        """End it, or what is being made of it."""
        order, self._order, self._branch = self._order, None, None
        if order is not None:
            order.frozen.drop()

"""Copies of the live branch, as they are ordered from the guest: each one made waits at a socket of its own."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Protocol

from kernel_runtime import wire
from kernel_runtime.domain.errors import (
    Conflict,
    ExternalStateError,
    GuestLost,
    KernelRuntimeError,
    UnsafeThreads,
)
from kernel_runtime.domain.level import Rung
from kernel_runtime.workers.branch import Pending
from kernel_runtime.workers.concealing import concealed
from kernel_runtime.workers.frozen import Frozen

if TYPE_CHECKING:
    from asyncio import Future

    from kernel_runtime.domain.disclosed import Disclosed
    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.init import Init
    from kernel_runtime.workers.restoration import How, Source
    from kernel_runtime.workers.turns import Turns


_LONGEST = 300


class Live(Protocol):
    """The part of the session's life that snapshots need."""

    used: bool
    paused: bool
    disclosed: Disclosed
    turns: Turns

    @property
    def rung(self) -> Rung: ...
    @property
    def init(self) -> Init | None: ...
    @property
    def resting(self) -> Branch | None: ...
    async def ready(self) -> Branch: ...
    def resume(self) -> None: ...
    def next_branch(self) -> Branch: ...
    async def switch(
        self, source: Source, how: How, leaving: Future[Snapshot | None] | None = None
    ) -> Branch: ...


class Order:
    """One copy that is being made. ``said``: what the guest told of it, once it has; ``concealed``: a text of its
    without the values of secrets."""

    def __init__(self, frozen: Frozen, request: wire.Freeze, disclosed: Disclosed) -> None:
        self.frozen = frozen
        self.concealed = disclosed.text
        said = self._said = list[
            wire.Froze
        ]()  # the sink knows nothing else: no circle is left when it is over
        self.pending = Pending(
            request,
            lambda frame: said.append(concealed(frame, disclosed)) if isinstance(frame, wire.Froze) else None,
        )

    @property
    def said(self) -> wire.Froze | None:
        return self._said[0] if self._said else None

    async def made(self) -> wire.Froze:
        """What the guest said of it, once it is there; dropped when it will not be."""
        try:
            verdict = await self.pending.ended
            if verdict is not None:
                raise GuestLost(verdict)
            said = _checked(self.said)
            await _first_word(self.frozen)
        except BaseException:
            self.frozen.drop()
            raise
        return said


class Freezing:
    """Orders copies of one session's live branch."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Let go of the session."""
        del self._live

    async def idle(self, refused: str) -> Branch:
        """The live branch between cells, which goes on if it was paused; ``Conflict`` while a cell runs, with what is
        ``refused``."""
        branch = await self._live.ready()
        if branch.executing:
            raise Conflict(f"a cell is running: {refused}")
        self._live.resume()
        return branch

    def order(
        self,
        branch: Branch,
        *,
        refuse: bool = False,
        gate: str = "",
        still: bool = False,
        dated: float = 0.0,
    ) -> Order:
        """``refuse``: make none of a state that holds what cannot be copied; ``gate``: where a cell waits; ``still``:
        make none of a state that changes by itself; ``dated``: the moment that it stands for, if not now."""
        self._live.resume()
        init = self._live.init
        if init is None or self._live.rung is not Rung.NAMESPACES:
            raise Conflict("snapshots need namespaces, which this host refuses: see `kernel-runtime doctor`")
        if branch.link.closed:
            raise Conflict("the guest has just ended: no snapshot of it")
        self._live.used = True  # a guest with snapshots is not exchanged for a warmer one
        disclosed = self._live.disclosed
        frozen = Frozen(init, disclosed)
        number = f"freeze-{next(self._numbers)}"
        request = wire.Freeze(id=number, refuse=refuse, gate=gate, still=still, dated=dated)
        order = Order(frozen, request, disclosed)
        try:
            branch.begin(order.pending, request, [frozen.guest_fd()])
        except OSError as error:
            frozen.drop()
            raise Conflict(f"the guest does not read what it is sent ({error}): no snapshot now") from None
        frozen.let_go()
        return order


def reason(error: KernelRuntimeError) -> str:
    """Why there is no snapshot, to be remembered: bounded, as the guest has a say in it."""
    if isinstance(error, UnsafeThreads):
        return f"other threads were running: {', '.join(error.names)}"[:_LONGEST]
    return str(error).removeprefix("no snapshot: ")[:_LONGEST]


async def _first_word(frozen: Frozen) -> None:
    try:
        await frozen.wait()
    except GuestLost as error:
        raise Conflict(f"no snapshot (it needs room for two processes): {error}") from None


def _checked(said: wire.Froze | None) -> wire.Froze:
    if said is None:
        raise Conflict("the guest did not say whether it made a snapshot")
    if said.error:
        raise Conflict(f"no snapshot: {said.error}")
    if said.external:
        raise ExternalStateError(said.external)
    if said.threads:
        raise UnsafeThreads(said.threads)
    return said

"""The first process of a session's guest: from a zygote, behind its walls, and what goes with it while it lives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import ZygoteLost
from kernel_runtime.workers.init import Init
from kernel_runtime.workers.meter import partial
from kernel_runtime.workers.pressure import Pressure
from kernel_runtime.workers.throttle import hold_share

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from kernel_runtime.domain.limits import Limits
    from kernel_runtime.sandbox.plan import GuestPlan, ImagePlan
    from kernel_runtime.workers.account import Account
    from kernel_runtime.workers.egress import Egress
    from kernel_runtime.workers.init import Owner
    from kernel_runtime.workers.meter import Meter
    from kernel_runtime.workers.snapshots import Snapshots
    from kernel_runtime.workers.zygote import Zygote

    #: Watches a first process for as long as it lives.
    Guard = Callable[[Meter], Coroutine[Any, Any, None]]


class First:
    """``init`` is it, ``pressure`` its memory against its snapshots; None while there is none. ``walls`` stand,
    ``missing`` do not; ``partial``: what this host does not hold exactly. ``egress``: who serves its network;
    ``zygote``: whom it was forked from, or is just being: nobody may end that one."""

    def __init__(
        self,
        zygote: Callable[[], Awaitable[Zygote]],
        plan: Callable[[ImagePlan], GuestPlan],
        account: Account,
    ) -> None:
        self.provide_zygote = zygote
        self.init: Init | None = None
        self.zygote: Zygote | None = None
        self.pressure: Pressure | None = None
        self.walls: list[str] = []
        self.missing: dict[str, str] = {}
        self.partial: dict[str, str] = {}
        self.egress: Egress | None = None
        self._plan = plan
        self._account = account
        self._guards: list[asyncio.Task[None]] = []
        self._sharing: asyncio.Task[None] | None = None
        self._share: float | None = None

    async def begin(self, limits: Limits, owner: Owner, snapshots: Snapshots, *guards: Guard) -> Init:
        """From another zygote where the one that is to fork it is just ending, and nobody knew."""
        try:
            init = await self._spawned(limits, owner)
        except ZygoteLost:
            init = await self._spawned(limits, owner)
        self.init = init
        self.pressure = Pressure(init.meter, snapshots)
        self.walls, self.missing = init.walls, init.missing
        self.partial = partial(limits, init.zygote.image)
        loop = asyncio.get_running_loop()
        self._guards = [loop.create_task(guard(init.meter)) for guard in guards]
        self.throttle(self._share)
        return init

    async def _spawned(self, limits: Limits, owner: Owner) -> Init:
        zygote = self.zygote = await self.provide_zygote()
        init = Init(zygote, limits, owner, self._account)
        try:
            await init.spawn(self._plan(zygote.image))
        except BaseException:
            self.zygote = None
            raise
        return init

    def drop(self) -> None:
        """End it, and with it every process of the guest."""
        init, self.init, self.zygote = self.init, None, None
        if init is not None:
            init.close()
        for guard in (*self._guards, self._sharing):
            if guard is not None:
                guard.cancel()
        self._guards, self._sharing = [], None

    def throttle(self, cpus: float | None) -> None:
        """See ``Life.throttle``."""
        self._share = cpus
        if self.init is None:
            return
        meter = self.init.meter
        meter.throttle(cpus)
        if self._sharing is not None:
            self._sharing.cancel()
        self._sharing = asyncio.get_running_loop().create_task(hold_share(meter))

    async def serve_egress(self) -> None:
        """Have the proxy that its clients find served, once."""
        init = self.init
        if init is not None and init.listener is not None and self.egress is not None:
            listener, init.listener = init.listener, None
            await self.egress.serve(listener, self._account.carried)

    async def close(self) -> None:
        """After ``drop``, for good."""
        if self.egress is not None:
            await self.egress.close()

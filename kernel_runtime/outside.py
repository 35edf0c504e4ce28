"""The network as a guest's ordinary clients find it: a proxy, decided by the session's broker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

from kernel_runtime.domain.errors import Conflict

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from kernel_runtime import ports
    from kernel_runtime.broker.broker import Broker
    from kernel_runtime.broker.gate import Ticket
    from kernel_runtime.broker.proxy import Proxy
    from kernel_runtime.domain.decide import Request


class Asking(Protocol):
    """The part of a session that is asked at."""

    def broker(self) -> ports.Broker: ...


class Outside:
    """``workers.egress.Egress``: serves what a session's ordinary clients ask of the network, as its broker
    decides. The proxy is put together when the first of them connects."""

    def __init__(self) -> None:
        self._session: Asking | None = None
        self._proxy: Proxy | None = None
        self._waiting: socket.socket | None = None
        self._beginning: asyncio.Task[None] | None = None

    def of(self, session: Asking) -> None:
        """Whose broker decides."""
        self._session = session

    async def serve(self, listener: socket.socket, carry: Callable[[int], float]) -> None:
        """See ``Egress``."""
        if self._proxy is not None:
            await self._proxy.serve(listener, carry)
            return
        self._forget()
        self._waiting = listener
        listener.setblocking(False)
        asyncio.get_running_loop().add_reader(listener, self._begin, listener, carry)

    async def close(self) -> None:
        """See ``Egress``."""
        self._forget()
        if self._beginning is not None:
            await asyncio.wait([self._beginning])
        if self._proxy is not None:
            await self._proxy.close()
        self._session = None  # until then it is told what was moved

    def _forget(self) -> None:
        """Nobody has connected so far."""
        listener, self._waiting = self._waiting, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()

    def _begin(self, listener: socket.socket, carry: Callable[[int], float]) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        self._waiting = None
        self._beginning = loop.create_task(self._serve(listener, carry))

    async def _serve(self, listener: socket.socket, carry: Callable[[int], float]) -> None:
        from kernel_runtime.broker.proxy import Proxy

        self._proxy = self._proxy or Proxy(self._demand, performed=self._performed)
        await self._proxy.serve(listener, carry)

    def _broker(self) -> Broker:
        if self._session is None:
            raise Conflict("the session is being closed")
        return cast("Broker", self._session.broker())

    async def _demand(self, request: Request) -> Ticket:
        return await self._broker().demand(request)

    def _performed(self, ticket: Ticket, size: int, seconds: float, error: str) -> None:
        self._broker().account(ticket, size, seconds, error)

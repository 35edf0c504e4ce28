"""Connections to checked addresses: a pool for each origin and its addresses, which knows no resolver.

TLS is verified on the name. A connection that is kept is used for the same origin and the same checked
addresses only. httpx and what it brings are imported by the first request.
"""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Iterable

    from kernel_runtime.broker.reach import Reached

_MOST_POOLS, _MOST_CONNECTIONS, _KEPT, _KEPT_SECONDS = 64, 16, 4, 30.0
#: What goes wrong out there, whichever of the two libraries says so.
TROUBLE = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpx.HTTPError,
    httpx.StreamError,
)
#: Nothing has been sent yet, or no answer begun.
UNANSWERED = (httpcore.NetworkError, httpcore.ConnectTimeout, httpcore.RemoteProtocolError)


class Addresses(httpcore.AsyncNetworkBackend):
    """Connects to these addresses, whatever host it is told."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self._addresses = addresses
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 — the interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        *others, last = self._addresses
        for address in others:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._backend.connect_tcp(last, port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class _Pool:
    """The connections of one origin, each with one request at a time; who finds none free waits in line.

    Not httpcore's own pool: each request that waits there is looked at for each answer that comes, and those that
    come together are given the same connection, which only one of them gets.
    """

    def __init__(self, make: Callable[[], httpcore.AsyncHTTPConnection]) -> None:
        self.users = 0
        self._make = make
        self._free = asyncio.Semaphore(_MOST_CONNECTIONS)
        self._idle: list[httpcore.AsyncHTTPConnection] = []
        self._kept = _KEPT

    @asynccontextmanager
    async def connection(self, seconds: float | None) -> AsyncIterator[httpcore.AsyncHTTPConnection]:
        """One that is free within so many seconds, or ``PoolTimeout``."""
        try:
            async with asyncio.timeout(seconds):
                await self._free.acquire()
        except TimeoutError:
            raise httpcore.PoolTimeout from None
        try:
            connection = await self._latest() or self._make()
            try:
                yield connection
            finally:
                await self._take_back(connection)
        finally:
            self._free.release()

    async def _latest(self) -> httpcore.AsyncHTTPConnection | None:
        """The one that was used last, of those that still stand."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    async def _take_back(self, connection: httpcore.AsyncHTTPConnection) -> None:
        others_wait = self.users > _MOST_CONNECTIONS
        if connection.is_idle() and self._kept and (others_wait or len(self._idle) < self._kept):
            self._idle.append(connection)
        else:
            await connection.aclose()

    async def close(self) -> None:
        """Those in use are closed when they are given back."""
        self._kept = 0
        while self._idle:
            await self._idle.pop().aclose()


class Connections:
    """Pools by origin and addresses. ``context``: TLS as an ordinary client has it, unless another is given."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._pools: OrderedDict[tuple[object, ...], _Pool] = OrderedDict()

    @asynccontextmanager
    async def send(self, request: httpx.Request, reached: Reached) -> AsyncIterator[httpcore.Response]:
        """The answer's beginning; its content is read within. Raises what is in ``TROUBLE``."""
        pool = self._pool(reached)
        pool.users += 1
        try:
            await self._close_surplus()
            async with pool.connection(request.extensions["timeout"].get("pool")) as connection:
                answer = await connection.handle_async_request(_as_sent(request, reached))
                try:
                    yield answer
                finally:
                    await answer.aclose()
        finally:
            pool.users -= 1

    def _pool(self, reached: Reached) -> _Pool:
        key = (*reached.target.origin, *sorted(reached.addresses))
        if key not in self._pools:
            self._pools[key] = _Pool(functools.partial(self._new_connection, reached))
        self._pools.move_to_end(key)
        return self._pools[key]

    def _new_connection(self, reached: Reached) -> httpcore.AsyncHTTPConnection:
        if self._context is None:
            self._context = httpx.create_ssl_context(trust_env=False)
        target = reached.target
        return httpcore.AsyncHTTPConnection(
            httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port),
            ssl_context=self._context,
            keepalive_expiry=_KEPT_SECONDS,
            network_backend=Addresses(reached.addresses),
        )

    async def _close_surplus(self) -> None:
        idle = [key for key, pool in self._pools.items() if not pool.users]
        for key in idle[: max(0, len(self._pools) - _MOST_POOLS)]:
            await self._pools.pop(key).close()

    async def close(self) -> None:
        """Idempotent."""
        pools, self._pools = self._pools, OrderedDict()
        for pool in pools.values():
            await pool.close()


def _as_sent(request: httpx.Request, reached: Reached) -> httpcore.Request:
    """The path as it was decided: no library is to write it anew."""
    target = reached.target
    url = httpcore.URL(
        scheme=target.scheme.encode(),
        host=target.host.encode(),
        port=target.port,
        target=target.path.encode(),
    )
    return httpcore.Request(
        request.method,
        url,
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


def failure(reached: Reached, error: BaseException) -> str:
    """What went wrong, in one sentence."""
    kind = type(error).__name__
    what = str(error) or kind
    if isinstance(error, (TimeoutError, httpcore.TimeoutException)):
        what = "it took too long"
    return f"{reached.target.scheme}://{reached.target.authority}: {what}"

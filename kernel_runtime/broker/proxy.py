"""The proxy that a guest's ordinary clients use: it listens in the guest's empty network, and is served here.

Plain requests are decided one by one, also on a connection that is kept; tunnels by name and port, with the
TLS server name held against it; what is large, again on the way. What is refused says why, in the answer's first
line.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING

from kernel_runtime.broker import headers
from kernel_runtime.broker.flow import Bounds, Meter, as_it_goes, leave
from kernel_runtime.broker.late import imported
from kernel_runtime.broker.reach import reach
from kernel_runtime.broker.resolver import Resolver
from kernel_runtime.broker.target import PORTS, Target, parse_authority, parse_url
from kernel_runtime.domain.errors import (
    CapabilityDenied,
    Invalid,
    KernelRuntimeError,
    LimitExceeded,
    OutsideFailed,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import h11
    import httpx

    from kernel_runtime.broker.conversation import Conversation
    from kernel_runtime.broker.flow import Carry
    from kernel_runtime.broker.gate import Ticket
    from kernel_runtime.broker.handler import Demand
    from kernel_runtime.broker.pinned import Connections
    from kernel_runtime.broker.reach import Reached

_STATUS = ((CapabilityDenied, 403), (LimitExceeded, 403), (Invalid, 400), (OutsideFailed, 502))
_UNSAID = frozenset({"TRACE"})
_VERSIONS = frozenset({b"1.0", b"1.1"})


class Proxy:
    """``demand`` decides each request. ``performed``: is told what an allowed one came to (ticket, bytes,
    seconds, error)."""

    def __init__(
        self,
        demand: Demand,
        *,
        performed: Callable[[Ticket, int, float, str], None] | None = None,
        resolver: Resolver | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self._demand = demand
        self._performed = performed or _tell_nobody
        self._resolver = resolver or Resolver()
        self._bounds = bounds or Bounds()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: Connections | None = None
        self._carry: Carry = as_it_goes

    async def serve(self, listener: socket.socket, carry: Carry = as_it_goes) -> None:
        """Begin to take connections of a listening socket, which is the proxy's from now on. An earlier one's
        guest is gone: it is closed, with its connections. ``carry`` counts every byte (``Account.carried``)."""
        await self._hang_up()
        self._carry = carry
        listener.setblocking(False)
        self._servers.append(await asyncio.start_server(self._welcome, sock=listener, limit=65_536))

    async def close(self) -> None:
        """Idempotent."""
        await self._hang_up()
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.close()

    async def _hang_up(self) -> None:
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its beginning to its end."""
        await imported("kernel_runtime.broker.conversation")
        from kernel_runtime.broker.conversation import Conversation

        task = asyncio.current_task()
        if task is None or len(self._tasks) >= 2 * self._bounds.connections:
            writer.transport.abort()
            return
        self._tasks.add(task)
        # asyncio does so itself for sockets that were made with the protocol's number only
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            conversation = Conversation(reader, writer, self._bounds)
            if len(self._tasks) > self._bounds.connections:
                await conversation.refuse(503, f"{self._bounds.connections} connections are open already")
            else:
                await self._converse(conversation)
        except OSError:
            pass  # the guest hung up, or does not read
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            with contextlib.suppress(asyncio.CancelledError):  # by then it is cut off
                await leave(writer)
            self._tasks.discard(task)

    async def _converse(self, conversation: Conversation) -> None:
        import h11

        try:
            while (request := await conversation.request()) is not None:
                if not await self._answer(conversation, request):
                    return
        except h11.ProtocolError as error:
            if not conversation.answered:
                await conversation.refuse(error.error_status_hint, f"this is no request of HTTP/1.1: {error}")

    async def _answer(self, conversation: Conversation, request: h11.Request) -> bool:
        """Whether there may be another request on this connection."""
        import h11

        try:
            if request.http_version not in _VERSIONS:
                raise Invalid("only HTTP/1.0 and HTTP/1.1 are spoken here")
            if request.method == b"CONNECT":
                await self._tunnel(conversation, request)
                return False
            async with asyncio.timeout(self._bounds.exchange):
                await self._exchange(conversation, request)
            return True
        except (KernelRuntimeError, TimeoutError) as error:
            if not conversation.answered:
                await conversation.refuse(_status(error), str(error) or "it took too long")
            return False
        except (OSError, h11.ProtocolError):
            raise
        except Exception as error:  # noqa: BLE001 — a fault of ours: the guest gets an answer, the log says how
            context = {"message": "a guest's request was not handled", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            if not conversation.answered:
                await conversation.refuse(500, "the host's proxy failed; its log says how")
            return False

    async def _tunnel(self, conversation: Conversation, request: h11.Request) -> None:
        from kernel_runtime.broker import tunnel

        host, port = parse_authority(request.target.decode("ascii"), 0)
        if not port:
            raise Invalid("CONNECT names a host and a port")
        target = Target(scheme="https", host=host, port=port, path="")
        _check_host(request, target)
        reached = await self._reach(target, "CONNECT")
        account = _Account(self, reached, "CONNECT")
        meter = Meter(self._carry, self._bounds.slice, account.renew)
        try:
            await tunnel.run(conversation, reached, meter, self._bounds)
        except (KernelRuntimeError, OSError) as error:
            account.error = str(error)
            raise
        finally:
            account.close(meter.count)

    async def _exchange(self, conversation: Conversation, request: h11.Request) -> None:
        """One plain request, decided, sent on, and answered."""
        await imported("kernel_runtime.broker.pinned")
        target = parse_url(request.target.decode("ascii"))
        if target.scheme != "http":
            raise Invalid(
                "https goes through CONNECT: a proxy that is asked for it in the open would read along"
            )
        method = request.method.decode("ascii")
        if method in _UNSAID or method != method.upper():
            raise Invalid(f"the method {method} is not passed on")
        _check_host(request, target)
        has_content = _has_content(request)
        reached = await self._reach(target, method)
        account = _Account(self, reached, method)
        meter = Meter(self._carry, self._bounds.slice, account.renew)
        try:
            content = conversation.content(meter) if has_content else None
            await self._pass_on(
                conversation, _as_sent(request, reached.target, content, self._bounds), reached, meter
            )
        except (KernelRuntimeError, OSError) as error:
            account.error = str(error)
            raise
        finally:
            account.close(meter.count)

    async def _pass_on(
        self, conversation: Conversation, sent: httpx.Request, reached: Reached, meter: Meter
    ) -> None:
        from kernel_runtime.broker import pinned

        if self._connections is None:
            self._connections = pinned.Connections()
        try:
            async with self._connections.send(sent, reached) as answer:
                reason = bytes(answer.extensions.get("reason_phrase", b"")).decode("latin-1")
                await conversation.begin(answer.status, reason, headers.passed_on(answer.headers))
                async for piece in answer.aiter_stream():
                    await meter.moved(len(piece))
                    await conversation.send(piece)
                await conversation.end()
        except pinned.TROUBLE as error:
            raise OutsideFailed(pinned.failure(reached, error)) from None

    async def _reach(self, target: Target, method: str) -> Reached:
        return await reach(target, method, self._demand, self._resolver)

    def tell(self, ticket: Ticket, size: int, seconds: float, error: str) -> None:
        """What an allowed request came to. When that cannot be written down, the next one will be denied."""
        with contextlib.suppress(KernelRuntimeError):
            self._performed(ticket, size, seconds, error)

    async def again(self, reached: Reached, method: str) -> Reached:
        """Have what goes on decided once more."""
        return await self._reach(reached.target, method)


class _Account:
    """What one allowed request came to, told once at its end; a large one's and a long tunnel's in slices, decided
    anew each."""

    def __init__(self, proxy: Proxy, reached: Reached, method: str) -> None:
        self.error = ""
        self._proxy = proxy
        self._method = method
        self._reached: Reached | None = reached
        self._begun = time.monotonic()

    async def renew(self, size: int) -> None:
        """``CapabilityDenied``: it may not go on."""
        reached = self._reached
        if reached is not None:
            self.close(size)
            self._reached = await self._proxy.again(reached, self._method)
            self._begun = time.monotonic()

    def close(self, size: int) -> None:
        reached, self._reached = self._reached, None
        if reached is not None:
            self._proxy.tell(reached.ticket, size, time.monotonic() - self._begun, self.error)


def _check_host(request: h11.Request, target: Target) -> None:
    """A ``Host`` that is another than the target: some server would believe it."""
    port = PORTS[target.scheme] if target.path else target.port  # of a tunnel few clients name it
    for name, value in request.headers:
        if name == b"host" and parse_authority(value.decode("latin-1"), port) != (target.host, target.port):
            raise Invalid(f"the Host header is not {target.authority}")


def _has_content(request: h11.Request) -> bool:
    framing = {name for name, _ in request.headers} & {b"content-length", b"transfer-encoding"}
    if len(framing) > 1:
        raise Invalid("a content with two lengths")
    return bool(framing)


def _as_sent(
    request: h11.Request, target: Target, content: AsyncIterator[bytes] | None, bounds: Bounds
) -> httpx.Request:
    import httpx

    kept = [pair for pair in headers.passed_on(request.headers) if pair[0] != b"host"]
    return httpx.Request(
        request.method.decode("ascii"),
        f"http://{target.authority}/",
        headers=[(b"Host", target.authority.encode()), *kept],
        content=content,
        extensions={"timeout": bounds.timeouts},
    )


def _status(error: BaseException) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 504)


def _tell_nobody(ticket: Ticket, size: int, seconds: float, error: str) -> None:
    """Nobody counts."""

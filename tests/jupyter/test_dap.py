"""DAP with a peer that lies: bounded, refused, never decoded beyond the bounds."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.jupyter import dap
from kernel_runtime.jupyter.dap import Dap, Incoming

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def framed(message: object) -> bytes:
    body = json.dumps(message).encode()
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def event(name: str = "output") -> bytes:
    return framed({"type": "event", "event": name, "seq": 1, "body": {}})


class Peer:
    """The guest's end, and what the host's end has noticed."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.events: list[Incoming] = []
        self.closed = asyncio.Event()
        self.dap: Dap


def with_peer(use: Callable[[Peer], Awaitable[None]]) -> None:
    async def run() -> None:
        host, guest = socket.socketpair()
        with guest:
            peer = Peer(guest)
            peer.dap = await Dap.over(host, peer.events.append, lambda _: peer.closed.set())
            await use(peer)
            peer.dap.close()
            await asyncio.sleep(0)

    asyncio.run(run())


def test_responses_find_their_requests_and_events_pass() -> None:
    async def use(peer: Peer) -> None:
        first, second = (asyncio.ensure_future(peer.dap.ask(name)) for name in ("threads", "scopes"))
        await asyncio.sleep(0.05)
        assert peer.sock.recv(4096).count(b"Content-Length: ") == 2
        peer.sock.sendall(event("stopped"))
        for seq in (2, 1):
            response = {"type": "response", "request_seq": seq, "success": True, "body": {"seq": seq}}
            peer.sock.sendall(framed(response))
        assert ((await first).get("seq"), (await second).get("seq")) == (1, 2)
        assert [each.event for each in peer.events] == ["stopped"]

    with_peer(use)


@pytest.mark.parametrize(
    "lie",
    [
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 99999999999\r\n\r\n",
        b"Content-Length: %d\r\n\r\n" % (dap.MAX_MESSAGE + 1),
        b"Length: 2\r\n\r\n{}",
        b"x" * 10_000,
        b"Content-Length: 3\r\n\r\n[1]",
        b"Content-Length: 2\r\n\r\n\xff\xff",
        framed({"type": "event", "body": json.loads("[" * 200 + "]" * 200)}),
        framed({"type": 1}),
    ],
)
def test_a_lie_ends_the_connection(lie: bytes) -> None:
    async def use(peer: Peer) -> None:
        waiting = asyncio.ensure_future(peer.dap.ask("threads"))
        await asyncio.sleep(0)
        peer.sock.sendall(lie)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(waiting, 60)
        assert peer.closed.is_set()
        assert isinstance(peer.dap.trouble, ProtocolViolation)
        with pytest.raises(ConnectionResetError):
            await peer.dap.ask("threads")

    with_peer(use)


def test_a_flood_of_events_is_slowed_down() -> None:
    async def use(peer: Peer) -> None:
        peer.sock.setblocking(False)
        begun = time.monotonic()
        while len(peer.events) < 2 * dap.EVENTS + 2:
            try:
                peer.sock.send(event() * 10)
            except BlockingIOError:
                await asyncio.sleep(0.01)
        assert time.monotonic() - begun >= 1, "so many pass in a second, and no more"

    with_peer(use)


def test_the_end_of_the_guest_ends_what_waits() -> None:
    async def use(peer: Peer) -> None:
        waiting = asyncio.ensure_future(peer.dap.ask("threads"))
        await asyncio.sleep(0)
        peer.sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionResetError, match="has ended"):
            await asyncio.wait_for(waiting, 60)
        assert peer.dap.trouble is None

    with_peer(use)

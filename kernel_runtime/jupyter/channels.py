"""The ROUTER channels (shell, control, stdin, heartbeat) in the loop, without helper threads.

libzmq's descriptor is edge-triggered: it signals once, and a send may swallow the signal. So
each wake drains until EAGAIN, and each send looks for input afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq

from kernel_runtime.jupyter.messages import MAX_MESSAGE

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Sequence

#: Messages taken in one turn of the loop before others get theirs.
BATCH = 100
LINGER = 1000


class Router:
    """One bound ROUTER socket; ``receive`` gets each message's frames, identities first."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        router: zmq.Socket[bytes],
        receive: Callable[[list[bytes]], None],
    ) -> None:
        self._loop = loop
        self._socket = router
        self._receive = receive
        self._descriptor = router.fileno()
        self._closed = False
        loop.add_reader(self._descriptor, self.drain)
        loop.call_soon(self.drain)

    def drain(self, batch: int = BATCH) -> None:
        """Hand on what has arrived; goes on in the next turn when there is more."""
        if self._closed:
            return
        for _ in range(batch):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._receive(frames)
        self._loop.call_soon(self.drain)

    def send(self, frames: Sequence[bytes]) -> None:
        """Send; a client that has gone is no error."""
        if self._closed:
            return
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
        if int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._loop.call_soon(self.drain)

    def close(self) -> None:
        """Stop; what was sent lingers a second."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._descriptor)
            self._socket.close(LINGER)


def adopt(context: zmq.Context[zmq.Socket[bytes]], listening: socket.socket) -> zmq.Socket[bytes]:
    """A ROUTER that serves a socket which listens already."""
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, LINGER)
    router.setsockopt(zmq.ROUTER_HANDOVER, 1)
    router.setsockopt(zmq.SNDHWM, 0)
    router.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
    listening.setblocking(False)
    address = listening.getsockname()
    if isinstance(address, str):
        endpoint = f"ipc://{address}"
    else:
        endpoint = (
            f"tcp://[{address[0]}]:{address[1]}" if ":" in address[0] else f"tcp://{address[0]}:{address[1]}"
        )
    router.setsockopt(zmq.IPV6, int(":" in endpoint.removeprefix("tcp://").rpartition(":")[0]))
    router.setsockopt(zmq.USE_FD, listening.detach())
    router.bind(endpoint)
    return router

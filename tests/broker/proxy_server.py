"""A proxy for tests that is really served, and what its clients say and hear."""

from __future__ import annotations

import socket
import threading
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kernel_runtime.broker.flow import Bounds, as_it_goes
from kernel_runtime.broker.proxy import Proxy
from tests.broker.outside import Names, demand_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from kernel_runtime.broker.flow import Carry
    from kernel_runtime.broker.gate import Gate, Ticket
    from kernel_runtime.workers.portal import Portal


class Running:
    """A proxy that is served, and what it told of allowed requests."""

    def __init__(self, portal: Portal, mine: Gate, names: Names, bounds: Bounds, carry: Carry) -> None:
        self.told: list[tuple[str, int, str]] = []
        self._heard = threading.Condition()
        self.portal = portal
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.proxy = Proxy(
            demand_of(mine), performed=self._performed, resolver=names.resolver(ttl=0), bounds=bounds
        )
        portal.call(self.proxy.serve(self.listener, carry))

    def _performed(self, ticket: Ticket, size: int, seconds: float, error: str) -> None:
        assert seconds >= 0
        with self._heard:
            self.told.append((str(ticket.request.scope), size, error))
            self._heard.notify_all()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def hears(self, what: Callable[[list[tuple[str, int, str]]], object]) -> bool:
        """Whether what was told comes to this: a guest may have its answer a moment before."""
        with self._heard:
            return self._heard.wait_for(lambda: bool(what(self.told)), 30)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def say(self, text: str | bytes) -> bytes:
        """Everything that comes back until the proxy hangs up."""
        with self.connect() as sock:
            sock.sendall(text if isinstance(text, bytes) else text.encode())
            return heard(sock)

    def opener(self, *handlers: Any) -> urllib.request.OpenerDirector:
        proxies = urllib.request.ProxyHandler({"http": self.url, "https": self.url})
        return urllib.request.build_opener(proxies, *handlers)

    def get(self, url: str, context: ssl.SSLContext | None = None) -> bytes:
        handlers = [urllib.request.HTTPSHandler(context=context)] if context else []
        with self.opener(*handlers).open(url, timeout=30) as answer:
            data: bytes = answer.read()
            return data

    def tunnel(self, authority: str) -> tuple[socket.socket, bytes]:
        sock = self.connect()
        sock.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n") and (byte := sock.recv(1)):
            head += byte
        return sock, head


def heard(sock: socket.socket) -> bytes:
    data = b""
    try:
        while piece := sock.recv(65_536):
            data += piece
    except ConnectionResetError:
        pass
    return data


@contextmanager
def running(
    portal: Portal, mine: Gate, names: Names, bounds: Bounds | None = None, carry: Carry = as_it_goes
) -> Iterator[Running]:
    run = Running(portal, mine, names, bounds or Bounds(), carry)
    try:
        yield run
    finally:
        portal.call(run.proxy.close())


def request(url: str, host: str, *lines: str) -> str:
    return "\r\n".join([f"GET {url} HTTP/1.1", f"Host: {host}", *lines, "", ""])

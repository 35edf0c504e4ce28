"""The proxy that listens in a guest's network: who serves it, and what the guest's environment says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kernel_runtime.sandbox.plan import EGRESS

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


class Egress(Protocol):
    """Serves what a guest's ordinary clients ask of the network."""

    async def serve(self, listener: socket.socket, carry: Callable[[int], float]) -> None:
        """Take the connections of a listening socket, which is the server's own from now on. The guest of an
        earlier one is gone. ``carry``: ``Account.carried`` of the session, before each piece that moves."""

    async def close(self) -> None:
        """Hang up; idempotent."""


_PROXY = f"http://{EGRESS[0]}:{EGRESS[1]}"
#: Both spellings, for clients read one or the other. What a guest serves itself is reached as it is. The environment is
#: read-only: what pip installs goes into the guest's own layer, and is imported from there (``guest/packages.py``).
PROXIED = {
    spelled: value
    for name, value in {
        "http_proxy": _PROXY,
        "https_proxy": _PROXY,
        "all_proxy": _PROXY,
        "no_proxy": "localhost,127.0.0.1,::1",
    }.items()
    for spelled in (name, name.upper())
} | {"PIP_TARGET": "/tmp/packages"}  # noqa: S108 - the guest's own

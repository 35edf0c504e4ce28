"""Names to addresses, asked of the host's resolver and remembered for a moment.

What comes back is checked by who asked, each time: a name may lead elsewhere tomorrow.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from typing import TYPE_CHECKING, TypeAlias

from kernel_runtime.domain.errors import OutsideFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: A name → its addresses as text, in the order in which they are to be tried.
Lookup: TypeAlias = "Callable[[str], Awaitable[list[str]]]"

#: Seconds that an answer is remembered, and that one is waited for.
TTL, PATIENCE = 30.0, 10.0
_MOST_NAMES, _MOST_ADDRESSES = 512, 8


class Resolver:
    """``lookup``: who is asked (default: the host's resolver). An address is its own answer."""

    def __init__(self, lookup: Lookup | None = None, *, ttl: float = TTL) -> None:
        self._lookup = lookup or _ask_host
        self._ttl = ttl
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}

    async def resolve(self, host: str) -> tuple[str, ...]:
        """The addresses of a host as ``parse_host`` gives it; ``OutsideFailed`` when there are none."""
        if _is_address(host):
            return (host,)
        ends, addresses = self._known.get(host, (0.0, ()))
        if ends <= time.monotonic():
            addresses = await self._asked(host)
            self._remember(host, addresses)
        return addresses

    async def _asked(self, host: str) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(PATIENCE):
                found = await self._lookup(host)
        except (OSError, UnicodeError) as error:  # a timeout is one, too
            raise OutsideFailed(f"the name {host} does not resolve: {str(error) or 'no answer'}") from None
        if not found:
            raise OutsideFailed(f"the name {host} has no address")
        return tuple(dict.fromkeys(found[:_MOST_ADDRESSES]))

    def _remember(self, host: str, addresses: tuple[str, ...]) -> None:
        if len(self._known) >= _MOST_NAMES:
            self._known.clear()
        self._known[host] = (time.monotonic() + self._ttl, addresses)


async def _ask_host(host: str) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(place[0]) for _, _, _, _, place in found]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

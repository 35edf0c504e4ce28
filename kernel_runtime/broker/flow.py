"""What moves through a proxy: counted, held to a bandwidth, and its other bounds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from kernel_runtime.domain.amounts import MIB

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


_LEAVE_SECONDS = 5.0
#: Bytes that are about to move → seconds to wait before they do; raises ``LimitExceeded``.
Carry: TypeAlias = "Callable[[int], float]"


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """``connections``: at a time (an ordinary client of HTTP opens up to 100); ``head``: seconds until a request's head, or a ClientHello, is there;
    ``quiet``: seconds in which nothing moves; ``exchange``: seconds of one request with its answer;
    ``connect``: seconds until a server takes a connection; ``slice``: bytes after which a request
    or a tunnel that goes on is decided again."""

    connections: int = 128
    head: float = 30.0
    quiet: float = 120.0
    exchange: float = 900.0
    connect: float = 15.0
    slice: int = 16 * MIB

    @property
    def timeouts(self) -> dict[str, float]:
        """As httpx's transports want them."""
        waits = {"connect": self.connect, "pool": self.connect}
        return waits | {"read": self.quiet, "write": self.quiet}


async def leave(writer: asyncio.StreamWriter) -> None:
    """Close a connection when what was written has gone out; one that does not take it is cut off."""
    writer.close()
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            await writer.wait_closed()
    except OSError:  # a timeout is one, too
        pass
    finally:
        writer.transport.abort()


class Meter:
    """What one connection moves. ``carry``: counts it for the guest, and says how long it has to wait for its
    bandwidth; every ``slice`` bytes ``used_up`` is asked whether it may go on."""

    def __init__(
        self, carry: Carry, slice_: int = 0, used_up: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        self.count = 0  # since it was last asked
        self._carry = carry
        self._slice = slice_
        self._used_up = used_up

    async def moved(self, count: int) -> None:
        """Before so many bytes are passed on."""
        self.count += count
        if self._used_up is not None and self.count >= self._slice:
            taken, self.count = self.count, 0
            await self._used_up(taken)
        wait = self._carry(count)
        if wait > 0:
            await asyncio.sleep(wait)


def as_it_goes(_: int) -> float:
    """No bandwidth, no amount."""
    return 0.0

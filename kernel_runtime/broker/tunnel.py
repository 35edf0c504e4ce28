"""A tunnel for TLS: the name in the ClientHello is the one that was allowed, then bytes go both ways.

What is said inside is nobody's business here and cannot be decided: a grant of one method opens no tunnel.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from kernel_runtime.broker.flow import leave
from kernel_runtime.broker.hello import UNRECOGNIZED_NAME, read_hello
from kernel_runtime.domain.errors import Invalid, OutsideFailed
from kernel_runtime.domain.hosts import parse_host

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.broker.conversation import Conversation
    from kernel_runtime.broker.flow import Bounds, Meter
    from kernel_runtime.broker.reach import Reached

_CHUNK = 65_536
#: Where bytes come from, and where they go.
Way: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(reached: Reached, seconds: float) -> Way:
    """A connection to the first of the checked addresses that takes it."""
    trouble = "no address"
    for address in reached.addresses:
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.open_connection(address, reached.target.port, limit=_CHUNK)
        except OSError as error:  # a timeout is one, too
            trouble = str(error) or "no answer"
    raise OutsideFailed(f"{reached.target.authority} takes no connection: {trouble}")


async def run(conversation: Conversation, reached: Reached, meter: Meter, bounds: Bounds) -> None:
    """Answer a CONNECT that was allowed, look at the first words, and pass bytes on until both have done.
    ``Invalid``: it is no TLS for that name; ``CapabilityDenied``: it may not go on."""
    reader, writer = await connect(reached, bounds.connect)
    try:
        await conversation.begin(200, "Connection established", [])
        first = await _first_words(conversation, reached.target.host, bounds)
        await meter.moved(len(first))
        writer.write(first)
        await _both_ways((conversation.reader, writer), (reader, conversation.writer), meter, bounds.quiet)
    finally:
        await leave(writer)


async def _first_words(conversation: Conversation, host: str, bounds: Bounds) -> bytes:
    """What the guest sends first, if it is a ClientHello for ``host``."""
    data = conversation.trailing
    try:
        async with asyncio.timeout(bounds.head):
            while (hello := read_hello(data)) is None:
                piece = await conversation.reader.read(_CHUNK)
                if not piece:
                    raise Invalid("the tunnel closed before a ClientHello")
                data += piece
        _check(hello.name, hello.hidden, host)
    except (Invalid, TimeoutError) as error:
        conversation.writer.write(UNRECOGNIZED_NAME)
        raise Invalid(f"a tunnel to {host}: {str(error) or 'no ClientHello in time'}") from None
    return data


def _check(name: str | None, hidden: bool, host: str) -> None:
    if hidden:
        raise Invalid("the server's name is encrypted (ECH): what cannot be read cannot be allowed")
    if name is None:
        if not _is_address(host):
            raise Invalid("the ClientHello names no server")
    elif parse_host(name) != host:
        raise Invalid(f"the ClientHello names another server, {name!a}")


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


async def _both_ways(out: Way, back: Way, meter: Meter, quiet: float) -> None:
    """Until both ends have closed, one has broken, or nothing has moved for ``quiet`` seconds."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(quiet) as patience:

            def moved() -> None:
                patience.reschedule(loop.time() + quiet)

            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(out, meter, moved))
                group.create_task(_copy(back, meter, moved))
    except TimeoutError:
        raise OutsideFailed(f"nothing moved through the tunnel for {quiet:g} s") from None
    except ExceptionGroup as group_error:
        raise group_error.exceptions[0] from None


async def _copy(way: Way, meter: Meter, moved: Callable[[], None]) -> None:
    reader, writer = way
    while data := await reader.read(_CHUNK):
        moved()
        await meter.moved(len(data))
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()

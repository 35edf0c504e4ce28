"""A server of HTTP on loopback that answers from memory: ``/N`` is N bytes."""

from __future__ import annotations

import asyncio
import multiprocessing
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from multiprocessing.connection import Connection

_BACKLOG = 1024


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """In this loop; its port."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, backlog=_BACKLOG)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.split(b" ", 2)[1].rpartition(b"/")[2])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            writer.write(bytes(size))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        writer.close()


@contextmanager
def serving_apart() -> Iterator[int]:
    """In a process of its own; its port."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,))
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(told: Connection) -> None:
    asyncio.run(_serve_until_killed(told))


async def _serve_until_killed(told: Connection) -> None:
    async with serving() as port:
        told.send(port)
        await asyncio.Event().wait()

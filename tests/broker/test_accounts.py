"""What was allowed here and done by the proxy is counted, whoever writes meanwhile and however it ends."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from types import SimpleNamespace
from typing import TYPE_CHECKING

from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.scopes import parse_scope
from kernel_runtime.outside import Outside
from tests.broker.asking import allowing, broker, run, written

if TYPE_CHECKING:
    from kernel_runtime.state import State


def moved(state: State) -> list[int]:
    return [record.bytes for record in state.audit.records() if record.event == "performed"]


def test_what_was_done_elsewhere_is_counted_once_others_have_written(state: State) -> None:
    async def test() -> None:
        made = broker(state, policy=allowing("cache"))
        ticket = await made.demand(Request(scope=parse_scope("cache")))
        other = sqlite3.connect(state.directory / "state.db", isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            made.account(ticket, 1000, 0.5, "")
            assert written(state) == [("decision", "allow")]
            other.execute("ROLLBACK")
        finally:
            other.close()
        await made.close()
        assert moved(state) == [1000]

    run(test)


def test_what_a_session_that_ends_has_moved_is_counted(state: State) -> None:
    async def test() -> None:
        asked = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(5000)
            asked.set()
            await reader.read()
            writer.close()

        made = broker(state, policy=allowing("net:127.0.0.1:*"))
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        listener = socket.create_server(("127.0.0.1", 0))
        place = listener.getsockname()
        outside = Outside()
        outside.of(SimpleNamespace(broker=lambda: made))
        await outside.serve(listener, lambda count: 0.0)
        _, writer = await asyncio.open_connection(*place)
        head = f"POST http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 9000\r\n\r\n"
        writer.write(head.encode() + bytes(6000))
        await asked.wait()
        await outside.close()
        assert moved(state) == [6000]
        writer.close()
        await made.close()
        server.close()

    run(test)

"""HTTP for a guest: through the handler and through the proxy, beside httpx itself, all on loopback."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from benchmarks.bars import HTTPX
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.registry import benchmark
from benchmarks.sites import serving
from benchmarks.turns import turns
from kernel_runtime.broker.handler import Call
from kernel_runtime.broker.http import Http
from kernel_runtime.broker.proxy import Proxy
from kernel_runtime.domain.manifest import undeclared
from kernel_runtime.domain.policy import Policy
from kernel_runtime.domain.rules import Grant
from kernel_runtime.domain.scopes import parse_scope
from kernel_runtime.state import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from benchmarks.scale import Scale
    from kernel_runtime.broker.gate import Ticket
    from kernel_runtime.domain.decide import Request

    Fetch = Callable[[str], Awaitable[bytes]]

_LARGE = 8_000_000


@benchmark(
    "egress",
    Spec(name="egress.handler", what="a small GET through the handler http, decided and written down"),
    Spec(name="egress.proxy", what="a small GET through the proxy, decided and written down"),
    Spec(name="egress.handler_bytes", what="8 MB through the handler http"),
    Spec(name="egress.proxy_bytes", what="8 MB through the proxy"),
)
def egress(scale: Scale) -> Iterator[Reading]:
    """Connections are kept by all; the server answers from memory, in the same loop."""
    return iter(asyncio.run(_measured(scale.rounds, max(5, scale.decisions // 100))))


async def _measured(rounds: int, count: int) -> list[Reading]:
    found: list[Reading] = []
    with tempfile.TemporaryDirectory() as place, State(Path(place) / "state") as state:
        async with serving() as port, _subjects(state) as subjects:
            small, large = (f"http://127.0.0.1:{port}/{size}" for size in (100, _LARGE))
            for fetch in subjects.values():
                await fetch(small)
            for name in turns(rounds, [*subjects]):
                for suffix, url, times in (("", small, count), ("_bytes", large, 2)):
                    seconds = await _timed(subjects[name], url, times)
                    figures = ("handler", "proxy") if name == HTTPX else (name,)
                    subject = HTTPX if name == HTTPX else OURS
                    found += [Reading(f"egress.{figure}{suffix}", subject, seconds) for figure in figures]
    return found


async def _timed(fetch: Fetch, url: str, times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        await fetch(url)
    return (time.perf_counter() - begun) / times


@asynccontextmanager
async def _subjects(state: State) -> AsyncIterator[dict[str, Fetch]]:
    gate = state.gate(undeclared("app"), Policy(), grants=[Grant(scope=parse_scope("net:127.0.0.1:*"))])

    async def demand(request: Request) -> Ticket:
        ticket = gate.ask(request)
        ticket.demand()
        return ticket

    handler, proxy = Http(), Proxy(demand)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    await proxy.serve(listener)

    async def handled(wanted: str) -> bytes:
        call = Call(capability="http", action="request", arguments={"url": wanted})
        content: bytes = (await handler.perform(call, demand)).value["content"]
        return content

    direct, through = httpx.AsyncClient(trust_env=False), httpx.AsyncClient(trust_env=False, proxy=url)
    async with direct, through:
        yield {
            HTTPX: lambda wanted: _content(direct, wanted),
            "handler": handled,
            "proxy": lambda wanted: _content(through, wanted),
        }
    await handler.close()
    await proxy.close()


async def _content(client: httpx.AsyncClient, url: str) -> bytes:
    return (await client.get(url)).content

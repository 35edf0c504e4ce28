"""1,000 requests of HTTP at a time, out of one guest: through the handler, and through the proxy."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks.bars import AIOHTTP
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.processes import peak, reset_peak
from benchmarks.registry import benchmark
from benchmarks.sites import serving_apart
from benchmarks.suite.broker import own_state
from benchmarks.turns import turns
from kernel_runtime import Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from benchmarks.scale import Scale

_AT_ONCE = 1000
_SIZE = 100
#: ``fetch(url)`` gives the size of an answer. All are asked for at once, after one alone.
_CROWD = f"""
import asyncio, json, os, time
async def crowd(fetch, url, count):
    begun = time.perf_counter()
    answers = await asyncio.gather(*(fetch(url) for _ in range(count)), return_exceptions=True)
    seconds = time.perf_counter() - begun
    return dict(seconds=seconds, failed=sum(answer != {_SIZE} for answer in answers))
async def through_aiohttp(url, count, proxy=None):
    import aiohttp
    async with aiohttp.ClientSession(trust_env=False) as session:
        async def fetch(url):
            async with session.get(url, proxy=proxy) as answer: return len(await answer.read())
        await fetch(url)
        return await crowd(fetch, url, count)
async def through_handler(url, count):
    from kernel_runtime.sdk import http
    async def fetch(url): return len((await http.aget(url, timeout=60)).content)
    await fetch(url)
    return await crowd(fetch, url, count)
"""
_CALLS = {
    "handler": "through_handler({url!r}, {count})",
    "proxy": "through_aiohttp({url!r}, {count}, os.environ['http_proxy'])",
    AIOHTTP: "through_aiohttp({url!r}, {count})",
}


@benchmark(
    "crowd",
    Spec(name="crowd.handler", what="small GETs through the handler http, 1,000 at a time", unit="/s"),
    Spec(name="crowd.proxy", what="small GETs through the proxy, 1,000 at a time", unit="/s"),
    Spec(name="crowd.handler_failed", what="of these through the handler, how many failed", unit="messages"),
    Spec(name="crowd.proxy_failed", what="of these through the proxy, how many failed", unit="messages"),
    Spec(name="crowd.handler_memory", what="what the front grew by at most, handler", unit="B"),
    Spec(name="crowd.proxy_memory", what="what the front grew by at most, proxy", unit="B"),
)
def crowd(scale: Scale) -> Iterator[Reading]:
    """Each turn in a front of its own, which has served one request before; the site is a third process."""
    count = min(_AT_ONCE, scale.decisions)
    with serving_apart() as port:
        url = f"http://127.0.0.1:{port}/{_SIZE}"
        for name in turns(min(scale.rounds, 5), ["handler", "proxy", AIOHTTP]):
            found = _apart(name, url, count)
            rate = count / found["seconds"]
            if name == AIOHTTP:
                yield from (Reading(f"crowd.{way}", AIOHTTP, rate) for way in ("handler", "proxy"))
                continue
            yield Reading(f"crowd.{name}", OURS, rate)
            yield Reading(f"crowd.{name}_failed", OURS, found["failed"])
            yield Reading(f"crowd.{name}_memory", OURS, found["memory"])


def _apart(name: str, url: str, count: int) -> dict[str, Any]:
    """What ``_measured`` finds in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    target = _measured_outside if name == AIOHTTP else _measured
    process = multiprocessing.get_context("spawn").Process(target=target, args=(theirs, name, url, count))
    process.start()
    theirs.close()
    found: dict[str, Any] = ours.recv()
    process.join()
    return found


def _measured(told: Connection, name: str, url: str, count: int) -> None:
    call = f"print(json.dumps(await {_CALLS[name]}))"
    with own_state(), Session(allow=[f"net:{urlsplit(url).netloc}"], automatic=False) as session:
        session.run(_CROWD)
        session.run(call.format(url=url, count=1))
        before = reset_peak()
        found = json.loads(session.run(call.format(url=url, count=count)).stdout)
        told.send(found | {"memory": peak() - before})


def _measured_outside(told: Connection, name: str, url: str, count: int) -> None:
    """The same code, in no guest."""
    names: dict[str, Any] = {}
    exec(_CROWD, names)
    told.send(asyncio.run(eval(_CALLS[name].format(url=url, count=count), names)))

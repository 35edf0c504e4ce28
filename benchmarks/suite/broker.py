"""What it costs a guest to ask the host."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import socket
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.bars import ECHO
from benchmarks.figures import OURS, Reading, Spec, percentile
from benchmarks.registry import benchmark
from kernel_runtime import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

_AT_ONCE = 1000
_TIMED = """
import time
from kernel_runtime.sdk import cache, door, events, log
def timed(call, count):
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return times
clock = door.Ask("clock", "now", {}, door.same)
heard = events.subscribe("bench")
poll = door.Ask("events", "poll", {"subscription": heard._number, "wait": 0.0}, door.same)
"""
_GATHERED = """
import asyncio
begun = time.perf_counter()
await asyncio.gather(*(door.awaited(clock) for _ in range({count})))
print(time.perf_counter() - begun)
"""


@benchmark(
    "broker",
    Spec(name="broker.call", what="a call and its answer, nothing to decide, p50"),
    Spec(name="broker.call_p99", what="a call and its answer, p99"),
    Spec(name="broker.granted", what="a granted call: decided and written down twice, p50"),
    Spec(name="broker.concurrent", what="granted calls, 1,000 at a time", unit="/s"),
    Spec(name="broker.logs", what="log records, one after the other", unit="/s"),
)
def broker(scale: Scale) -> Iterator[Reading]:
    """In a session of its own, with a state on the disk for temporary files."""
    count = max(20, scale.decisions // 10)
    with own_state(), Session(allow=["clock", "events:subscribe:bench"], automatic=False) as session:
        session.run(_TIMED)
        for _ in range(scale.rounds):
            times = _times(session, "door.waited(poll)", count)
            yield Reading("broker.call", OURS, percentile(times, 0.5))
            yield Reading("broker.call", ECHO, percentile(_echoes(count), 0.5))
            yield Reading("broker.call_p99", OURS, percentile(times, 0.99))
            yield Reading(
                "broker.granted", OURS, percentile(_times(session, "door.waited(clock)", count), 0.5)
            )
            at_once = min(_AT_ONCE, 10 * count)
            seconds = float(session.run(_GATHERED.format(count=at_once)).stdout)
            yield Reading("broker.concurrent", OURS, at_once / seconds)
            yield Reading("broker.logs", OURS, count / sum(_times(session, "log.info(1)", count)))


def _times(session: Session, call: str, count: int) -> list[float]:
    text = session.run(f"import json\nprint(json.dumps(timed(lambda: {call}, {count})))").stdout
    times: list[float] = json.loads(text)
    return times


def _echoes(count: int) -> list[float]:
    """What any call to a process with an event loop takes: some bytes there and back, nothing done with them."""
    ours, theirs = socket.socketpair()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(ours,))
    server.start()
    ours.close()
    times = []
    with theirs:
        for _ in range(count):
            begun = time.perf_counter()
            theirs.send(bytes(60))
            theirs.recv(1000)
            times.append(time.perf_counter() - begun)
    server.join()
    return times[count // 10 :]


def _serve(sock: socket.socket) -> None:
    asyncio.run(_echo(sock))


async def _echo(sock: socket.socket) -> None:
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, 1000):
        await loop.sock_sendall(sock, data)


@contextmanager
def own_state() -> Iterator[None]:
    """A state on the disk for temporary files, for the sessions of this process."""
    before = os.environ.get("KERNEL_RUNTIME_STATE")
    with tempfile.TemporaryDirectory() as place:
        os.environ["KERNEL_RUNTIME_STATE"] = place
        try:
            yield
        finally:
            if before is None:
                del os.environ["KERNEL_RUNTIME_STATE"]
            else:
                os.environ["KERNEL_RUNTIME_STATE"] = before

"""What was under way in the loop goes on after any time frozen, alike in every branch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.domain.errors import ExternalStateError

if TYPE_CHECKING:
    import kernel_runtime

#: Nothing ends in its first second and a half: so long may a busy machine take to freeze it and bring it back.
PENDING = """
import asyncio, collections
log = collections.defaultdict(list)
loop = asyncio.get_running_loop()
begun = loop.time()

async def until(moment):
    await asyncio.sleep(max(0, begun + moment - loop.time()))

async def timer(name, moments):
    for moment in moments:
        await until(moment)
        log[name].append(moment)
    return name

async def produce(queue):
    for n in range(6):
        await queue.put(n * n)
        await until(0.3 * n)
    await queue.put(None)

async def consume(queue):
    while (item := await queue.get()) is not None:
        log['queue'].append(item)
    return sum(log['queue'])

async def contend(name, lock):
    async with lock:
        log['lock'].append(name)
        await until(1.5)
    return name

async def numbers():
    for n in range(4):
        await until(0.5 * n)
        yield n

async def gather_numbers():
    async for n in numbers():
        log['numbers'].append(n)
    return len(log['numbers'])

async def expire():
    try:
        async with asyncio.timeout(1.5):
            await asyncio.Event().wait()
    except TimeoutError:
        return 'expired'

queue, lock = asyncio.Queue(maxsize=2), asyncio.Lock()
called = loop.create_future()
_ = loop.call_later(1.5, called.set_result, 'called')
work = [timer('fast', [0.1, 0.2, 1.5]), timer('slow', [1.5, 1.6]), produce(queue), consume(queue),
        contend('first', lock), contend('second', lock), gather_numbers(), expire()]
tasks = [asyncio.ensure_future(one) for one in work] + [called]
await until(0.05)
sum(task.done() for task in tasks)
"""
FINISH = "results = [await task for task in tasks]\nseen = dict(log)\nspent = loop.time() - begun"
EXPECTED = ["fast", "slow", None, 55, "first", "second", 4, "expired", "called"]


def _finished(session: kernel_runtime.Session) -> dict[str, Any]:
    session.run(FINISH)
    assert session.value("results") == EXPECTED
    seen: dict[str, Any] = session.value("seen")
    return seen


def test_pending_work_finishes_alike_in_every_branch(session: kernel_runtime.Session) -> None:
    assert session.run(PENDING).result == "0", "the control: nothing is done yet"
    session.snapshot("pending")
    first = _finished(session)
    assert first["queue"] == [0, 1, 4, 9, 16, 25]
    assert first["lock"] == ["first", "second"]
    assert first["numbers"] == [0, 1, 2, 3]
    for _ in range(2):
        session.run("import time; time.sleep(1.8)")  # frozen for longer than any of the timers
        restored = session.restore("pending")
        assert restored.external == []
        assert session.run("'slow' in log, any(t.done() for t in tasks)").result == "(False, False)"
        assert _finished(session) == first


def test_the_loops_clock_stands_still_while_frozen(session: kernel_runtime.Session) -> None:
    session.run("import asyncio\nloop = asyncio.get_running_loop(); then = loop.time()")
    session.snapshot("then")
    session.run("import time; time.sleep(1.5)")
    session.restore("then")
    assert session.run("loop.time() - then < 1.4").result == "True"
    assert session.run("asyncio.get_running_loop() is loop").result == "True"
    session.run("await asyncio.sleep(0.01)")


def test_work_in_the_background_goes_on_by_itself(session: kernel_runtime.Session) -> None:
    code = "import asyncio\nn = 0\nasync def count():\n    global n\n    while True:\n        await asyncio.sleep(0.01)\n        n += 1\nt = asyncio.ensure_future(count())"
    session.run(code)
    session.snapshot("counting")
    session.restore("counting")
    session.run("then = n\nwhile n < then + 3: await asyncio.sleep(0.01)")
    assert session.run("t.cancel(); n > then").result == "True"


def test_a_connection_in_the_loop_is_missed_by_name_and_ends(session: kernel_runtime.Session) -> None:
    code = """
import asyncio
async def echo(reader, writer):
    writer.write(await reader.readline())
server = await asyncio.start_server(echo, '127.0.0.1', 0)
reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
await asyncio.sleep(0)
"""
    session.run(code)
    with pytest.raises(ExternalStateError, match="INET STREAM"):
        session.snapshot("strict", refuse=True)
    point = session.snapshot("connected")
    assert any("INET STREAM" in name for name in point.external)
    session.run("writer.write(b'x\\n'); line = await reader.readline()")
    assert session.value("line") == b"x\n"
    session.restore("connected")
    ended = "try:\n    line = await asyncio.wait_for(reader.readline(), 5)\nexcept OSError as error:\n    line = repr(error).encode()"
    session.run(ended)
    assert session.value("line") != b"x\n"
    spent = session.run(
        "import time\nbefore = time.process_time()\nawait asyncio.sleep(0.5)\ntime.process_time() - before < 0.3"
    )
    assert spent.result == "True", "dead connections must not keep the loop busy"

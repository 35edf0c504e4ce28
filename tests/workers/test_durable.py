"""Checkpoints of a real session: written beside it, brought back in another one, undone, refused."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

import kernel_runtime
from kernel_runtime import Conflict, NotFound, UnsafeThreads
from kernel_runtime.domain.snapshot import Saving
from kernel_runtime.runtime import Runtime, Settings
from kernel_runtime.workers import durable
from kernel_runtime.workers.checkpoints import receive_checkpoint
from tests.journeys.processes import eventually
from tests.workers.branches import inner_of, only_live_runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAKE = """
import threading
import numpy as np

class Node:
    def __init__(self, value):
        self.value, self.me = value, self

def double(x):
    return 2 * x + offset

offset = 1
table = np.arange(1_000_000.0)
view = table[10:20]
node = Node([1, 2])
stream = (n for n in range(3))
lock = threading.Lock()
"""
#: Variables for which the writer had no help are left out.
HELPED = """
import os
import numpy as np
from kernel_runtime.guest import checkpoint_hashing, checkpoint_save

os.sched_getaffinity = lambda _: {0, 1}

def noted(self, ahead, alone, take=checkpoint_save._Save._take_ahead):
    made = take(self, ahead, alone)
    if "records" not in made:
        self.leave_out("records", "no help")
    return made

def available(pipe, read=checkpoint_hashing._available):
    os.set_blocking(pipe, True)
    if not (found := read(pipe)):
        raise RuntimeError("no help")
    return found

checkpoint_save._Save._take_ahead = noted
checkpoint_hashing._available = available
records = [{"id": n, "tags": [n]} for n in range(60_000)]
table = np.arange(10_000_000.0)
del noted, available
"""
CHECK = "(double(2), view.base is table, node.me is node, node.value, float(table[7]))"


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[kernel_runtime.Session]:
    """One whose checkpoints are this test's own."""
    with kernel_runtime.Session(memory="1G", workdir=None, name=request.node.name) as session:
        yield session


def test_a_writer_within_the_walls_has_helpers(session: kernel_runtime.Session) -> None:
    session.run(HELPED)
    kept = session.checkpoint("helped")
    assert kept.skipped == {}
    with kernel_runtime.Session(memory="1G", workdir=None, name="other") as other:
        assert other.load("helped").failed == {}
        assert (
            other.run("(records[-1], float(table[-1]))").result
            == "({'id': 59999, 'tags': [59999]}, 9999999.0)"
        )


def test_what_is_written_comes_back_in_another_session(session: kernel_runtime.Session) -> None:
    session.run(MAKE)
    kept = session.checkpoint("monday")
    assert {"table", "view", "node", "double", "offset", "Node"} <= set(kept.names)
    assert set(kept.skipped) == {"stream", "lock"}
    assert "generator" in kept.skipped["stream"]
    with kernel_runtime.Session(memory="1G", workdir=None, name="other") as other:
        restored = other.load("monday")
        assert restored.failed == {}
        assert other.run(CHECK).result == "(5, True, True, [1, 2], 7.0)"
        other.run("view[0] = -1")
        assert other.run("float(table[10])").result == "-1.0"
    assert session.run("float(table[10])").result == "10.0"


def test_only_what_changed_is_written_again(session: kernel_runtime.Session) -> None:
    session.run("import numpy as np\ntable = np.random.default_rng().random(1_000_000)")
    first = session.checkpoint()
    session.run("table[7] = 70")
    second = session.checkpoint()
    assert second.parent == first.id
    assert second.added < first.added / 20
    session.load(second.id)
    assert session.run("float(table[7])").result == "70.0"


def test_loading_is_undone_like_a_run(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    session.checkpoint("one")
    session.run("x = 2")
    session.load("one")
    assert session.run("x").result == "1"
    session.undo(2)
    assert session.run("x").result == "2"


def test_some_of_it_alone(session: kernel_runtime.Session) -> None:
    session.run("x, y = 1, 2")
    session.checkpoint("both")
    session.run("x, y = 3, 4")
    assert session.load("both", names=["y"]).names == ["y"]
    assert session.run("(x, y)").result == "(3, 2)"


def test_the_writer_leaves_nothing_behind(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    for number in range(3):
        session.checkpoint(f"number{number}")
    assert eventually(lambda: only_live_runs(inner_of(session)), 60)
    assert [s for s in session.snapshots() if not s.automatic] == []


def test_code_that_runs_while_it_is_pickled_hurts_nobody(session: kernel_runtime.Session) -> None:
    session.run(
        "import os\n"
        "class Mine:\n"
        "    def __reduce__(self):\n"
        "        global x\n"
        "        x = 'changed'; print('noise'); os._exit(9)\n"
        "x, mine = 1, Mine()"
    )
    with pytest.raises(kernel_runtime.KernelRuntimeError):
        session.checkpoint("hostile")
    assert session.run("x").result == "1"
    session.run("del mine, Mine")
    assert "x" in session.checkpoint("afterwards").names


def test_code_that_hangs_while_it_is_loaded_is_ended(session: kernel_runtime.Session) -> None:
    session.run(
        "import time\n"
        "class Slow:\n"
        "    def __setstate__(self, state):\n"
        "        self.__dict__.update(state)\n"
        "        while self.endless(): time.sleep(1)\n"
        "    def endless(self): return waits\n"
        "waits = False\n"
        "slow = Slow(); slow.a = 1; x = 5"
    )
    session.checkpoint("slow")
    session.run("x = 6; waits = True")
    with pytest.raises(TimeoutError):
        print(session._portal.call(_load_soon(session, "slow")))
    assert session.run("x").result == "6"


async def _load_soon(session: kernel_runtime.Session, name: str) -> None:
    """``load``, with three seconds for all of it."""
    async with asyncio.timeout(3):
        await session._session.load(name, names=["slow"])


def test_refusals(session: kernel_runtime.Session) -> None:
    with pytest.raises(NotFound, match="no checkpoint 'nowhere'"):
        session.load("nowhere")
    session.run(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True, name='mine').start()"
    )
    with pytest.raises(UnsafeThreads, match="mine"):
        session.checkpoint("threads")


def test_made_by_itself_after_so_many_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    async def story() -> None:
        runtime = Runtime(Settings(warm=()))
        try:
            inner = runtime.open_session(key="book", saving=Saving(cells=2))
            session = kernel_runtime.AsyncSession()
            session._runtime, session._session = runtime, inner
            await session.run("x = 1")
            assert await inner.durable.newest() is None
            await session.run("x = 2")
            for _ in range(600):
                newest = await inner.durable.newest()
                if newest is not None:
                    break
                await asyncio.sleep(0.1)
            assert newest is not None
            assert newest.names == ["x"]
            assert "%restore" in await inner.offer()
        finally:
            await runtime.close()

    asyncio.run(story())


SLOW = "import time\nclass Slow:\n    def __reduce__(self):\n        time.sleep(600)\nslow = Slow()"


def test_one_that_is_being_written_when_another_state_comes_back_is_made_of_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    writing = asyncio.Event()

    async def receive(*arguments: Any) -> Any:
        writing.set()
        return await receive_checkpoint(*arguments)

    monkeypatch.setattr(durable, "receive_checkpoint", receive)

    async def story() -> None:
        runtime = Runtime(Settings(warm=()))
        try:
            inner = runtime.open_session(key="book", saving=Saving(cells=2))
            session = kernel_runtime.AsyncSession()
            session._runtime, session._session = runtime, inner
            await session.run("x = 1")
            await session.run(SLOW)
            await asyncio.wait_for(writing.wait(), 60)
            await session.undo()
            assert inner.durable._automatic is not None
            await asyncio.wait_for(inner.durable._automatic, 60)
            newest = await inner.durable.newest()
            assert newest is not None
            assert newest.names == ["x"]
            assert inner.durable.trouble == ""
            writing.clear()
            await session.redo()
            asked = asyncio.ensure_future(session.checkpoint("mine"))
            await asyncio.wait_for(writing.wait(), 60)
            await session.undo()
            with pytest.raises(Conflict, match="another state was brought back"):
                await asked
        finally:
            await runtime.close()

    asyncio.run(story())


def test_without_a_store_nothing_is_made_by_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    async def story() -> None:
        runtime = Runtime(Settings(warm=()))
        try:
            inner = runtime.open_session(key="book")
            await inner.ready()
            assert await inner.offer() == ""
            assert list(tmp_path.iterdir()) == []
        finally:
            await runtime.close()

    asyncio.run(story())


def test_a_running_cell_is_not_written(session: kernel_runtime.Session) -> None:
    started = threading.Event()
    runner = threading.Thread(
        target=lambda: session.run(
            "print('go', flush=True)\nimport time\nwhile True: time.sleep(0.1)",
            check=False,
            on_output=lambda _: started.set(),
        )
    )
    runner.start()
    try:
        assert started.wait(60)
        with pytest.raises(Conflict, match="running"):
            session.checkpoint("now")
    finally:
        session.interrupt()
        runner.join(60)

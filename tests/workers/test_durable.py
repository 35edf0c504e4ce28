"""Checkpoints of a real session: written beside it, brought back in another one, undone, refused."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

import kernel_runtime
from kernel_runtime import Conflict, Invalid, NotFound, UnsafeThreads
from kernel_runtime.domain.checkpoint import Retention
from kernel_runtime.domain.snapshot import Saving
from kernel_runtime.runtime import Runtime, Settings
from kernel_runtime.workers import link
from tests.journeys.processes import eventually
from tests.workers.branches import inner_of, only_live_runs, processes

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
    kept = session.checkpoint("monday-here")
    assert {"table", "view", "node", "double", "offset", "Node"} <= set(kept.names)
    assert set(kept.skipped) == {"stream", "lock"}
    assert "generator" in kept.skipped["stream"]
    with kernel_runtime.Session(memory="1G", workdir=None, name="other") as other:
        restored = other.load("monday-here")
        assert restored.failed == {}
        assert other.run(CHECK).result == "(5, True, True, [1, 2], 7.0)"
        other.run("view[0] = -1")
        assert other.run("float(table[10])").result == "-1.0"
    assert session.run("float(table[10])").result == "10.0"


def test_private_names_are_kept_and_ipythons_own_are_not(session: kernel_runtime.Session) -> None:
    session.run(
        "_limit, _i_am_mine = 3, 4\ndef _helper(x): return x + _limit\ndef f(x): return _helper(x) + _i_am_mine"
    )
    assert [session.run(code).result for code in ("f(1)", "_", "_1 if '_1' in globals() else 8")] == ["8"] * 3
    kept = session.checkpoint("private")
    assert sorted(kept.names) == ["_helper", "_i_am_mine", "_limit", "f"]
    with kernel_runtime.Session(memory="1G", workdir=None, name="other") as other:
        assert other.load("private").failed == {}
        assert other.run("f(1)").result == "8"


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
    assert session.load("one").unkept == ""
    assert session.run("x").result == "1"
    session.undo(2)
    assert session.run("x").result == "2"


def test_some_of_it_alone(session: kernel_runtime.Session) -> None:
    session.run("x, y = 1, 2")
    session.checkpoint("both")
    session.run("x, y = 3, 4")
    assert session.load("both", names=["y"]).names == ["y"]
    assert session.run("(x, y)").result == "(3, 2)"


def test_a_variable_that_is_not_inside_is_told_with_one_like_it(session: kernel_runtime.Session) -> None:
    session.run("table, stream = 1, (n for n in [1])")
    session.checkpoint("both")
    session.run("table = 2")
    with pytest.raises(NotFound, match="no variable 'tabel'; did you mean 'table'"):
        session.load("both", names=["table", "tabel"])
    with pytest.raises(NotFound, match=r"'stream' could not be saved.*generator"):
        session.load("both", names=["stream"])
    assert session.run("table").result == "2"
    assert session.load("both", names=["table"]).names == ["table"]  # the control
    assert session.run("table").result == "1"


def test_ones_own_comes_first_and_another_ones_is_told() -> None:
    sessions = [kernel_runtime.Session(workdir=None, name=name) for name in ("mine-a", "mine-b", "mine-c")]
    with sessions[0] as a, sessions[1] as b, sessions[2] as c:
        for who in (a, b):
            who.run(f"who = {who.name!r}")
            who.checkpoint("sunday")
        b.checkpoint("alone")
        assert a.load("sunday").of == ""
        assert a.run("who").result == "'mine-a'"
        restored = a.load("alone")
        assert restored.of == "mine-b"
        assert a.run("who").result == "'mine-b'"
        with pytest.raises(Conflict, match=r"2 sessions or notebooks.*mine-b.*mine-a"):
            c.load("sunday")
        assert c.load(restored.id).of == "mine-b"


def test_sessions_without_a_name_do_not_push_each_other_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    async def story() -> None:
        runtime = Runtime(Settings(warm=()))
        try:
            saving = Saving(retention=Retention(count=1))
            first, second = (_session(runtime, saving=saving) for _ in range(2))
            await first.run("x = 'precious'")
            precious = await first.checkpoint()
            await first.checkpoint("named")
            for number in range(3):
                await second.run(f"x = {number}")
                last = await second.checkpoint()
            store = runtime._checkpoints(False)
            assert store is not None
            assert {one.title for one in store.checkpoints()} == {precious.id, "named", last.id}
            await first.close()
            assert (await second.load("named")).of == precious.key  # as after a restart
            assert (await second.run("x")).result == "'precious'"
        finally:
            await runtime.close()

    asyncio.run(story())


def _session(runtime: Runtime, **terms: Any) -> kernel_runtime.AsyncSession:
    session = kernel_runtime.AsyncSession()
    session._runtime, session._session = runtime, runtime.open_session(**terms)
    return session


def test_a_snapshot_that_is_durable_is_on_disk_as_well(session: kernel_runtime.Session) -> None:
    session.run("x, stream = 1, (n for n in [1])")
    made = session.snapshot("both-places", durable=True)
    assert made.checkpoint is not None
    assert made.checkpoint.label == made.name == "both-places"
    assert (made.checkpoint.names, list(made.checkpoint.skipped)) == (["x"], ["stream"])
    assert session.snapshot("here-alone").checkpoint is None
    session.run("x = 2")
    session.restore("both-places")
    assert session.run("x").result == "1"
    with kernel_runtime.Session(workdir=None, name="other") as other:
        other.load("both-places")
        assert other.run("x").result == "1"
        with pytest.raises(NotFound):
            other.load("here-alone")


def test_what_nobody_asked_for_has_a_label_of_its_own(session: kernel_runtime.Session) -> None:
    with pytest.raises(Invalid, match="automatic"):
        session.checkpoint("automatic")


def test_the_writer_leaves_nothing_behind(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    for number in range(3):
        session.checkpoint(f"number{number}")
    assert eventually(lambda: only_live_runs(inner_of(session)), 60)
    assert [s for s in session.snapshots() if not s.automatic] == []


#: Is pickled once a file is there.
WAITS = """
import os, time
class Waits:
    def __reduce__(self):
        while not os.path.exists("/tmp/go"): time.sleep(0.01)
        return int, ()
waits = Waits()
"""


def test_the_copy_that_a_writer_comes_from_stands_still_while_it_writes(
    session: kernel_runtime.Session,
) -> None:
    session.run(WAITS)
    inner = inner_of(session)
    kept: list[object] = []
    saving = threading.Thread(target=lambda: kept.append(session.checkpoint("slow")))
    saving.start()

    def beside() -> list[str]:
        return sorted(one.state for one in processes(inner)[2:] if one.pid not in inner.snapshots.pids)

    assert eventually(lambda: "T" in beside(), 60), beside()
    assert {"R", "S"} & set(beside()), "the control: the writer waits"
    assert not kept
    session.run("open('/tmp/go', 'w').close()")
    saving.join(60)
    assert kept


def test_where_no_descriptor_can_be_passed_nothing_is_saved_or_loaded(
    session: kernel_runtime.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.run("x = 1")
    session.checkpoint("one")
    send = link.Link._send_now

    def few(sender: link.Link, data: bytes | memoryview, fds: list[int] | None) -> int:
        if fds and len(fds) == 1:
            raise BlockingIOError
        return send(sender, data, fds)

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(link.Link, "_send_now", few)
        for refused in (session.checkpoint, session.load):
            with pytest.raises(kernel_runtime.KernelRuntimeError, match="does not read what it is sent"):
                refused("two" if refused is session.checkpoint else "one")
    assert eventually(lambda: len(os.listdir("/proc/self/fd")) <= before, 60)
    assert session.load("one").names == ["x"]


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


@pytest.mark.slow
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
    session.checkpoint("somewhere")
    with pytest.raises(NotFound, match="no checkpoint 'nowhere'"):
        session.load("nowhere")
    session.run(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True, name='mine').start()"
    )
    with pytest.raises(UnsafeThreads, match="mine") as refused:
        session.checkpoint("threads")
    told = f"{refused.value} {UnsafeThreads.__doc__}"
    assert "save a checkpoint" not in told, "it is no way out: it is refused as well"


def test_without_a_store_nothing_is_made_by_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    async def story() -> None:
        runtime = Runtime(Settings(warm=()))
        try:
            inner = runtime.open_session(key="book")
            await inner.ready()
            assert await inner.offer() == ""
            with pytest.raises(NotFound, match="no checkpoint has been kept"):
                await inner.revive("monday-here")
            assert list(tmp_path.iterdir()) == []
        finally:
            await runtime.close()

    asyncio.run(story())


def test_packs_without_their_manifest_are_told_to_who_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    async def story(begun: bool) -> str:
        runtime = Runtime(Settings(warm=()))
        try:
            session = _session(runtime, key="book")
            if not begun:
                await session.run("x = 1")
                await session.checkpoint("monday-here")
            return await session.watched.offer()
        finally:
            await runtime.close()

    assert "%restore monday" in asyncio.run(story(False))
    (tmp_path / "kernel-runtime/checkpoints/manifest.sqlite").write_bytes(b"")
    assert "Nothing was removed" in asyncio.run(story(True))


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

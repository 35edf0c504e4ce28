"""What is told of checkpoints beside what they are: that undo does not take one back, that one is in memory alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import kernel_runtime
from kernel_runtime import Conflict, StorageFailed
from kernel_runtime.domain.snapshot import Budget
from tests.workers.branches import inner_of, only_live_runs, processes, strays

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[kernel_runtime.Session]:
    """One whose checkpoints are this test's own."""
    with kernel_runtime.Session(memory="1G", workdir=None, name=request.node.name) as session:
        yield session


def test_that_a_loading_cannot_be_undone_is_told_with_the_reason(session: kernel_runtime.Session) -> None:
    session.run("import threading\nx = 1")
    session.checkpoint("one")
    session.run("end = threading.Event()\nthreading.Thread(target=end.wait, name='beside').start()\nx = 2")
    assert "beside" in session.load("one").unkept
    with pytest.raises(Conflict, match="beside"):
        session.undo()
    session.run("end.set()")
    with kernel_runtime.Session(
        memory="512M", workdir=None, name=session.name, snapshots=Budget(automatic=0)
    ) as without:
        assert without.load("one").unkept == "automatic snapshots are off (undo=0)"
        assert without.run("x").result == "1"


def test_what_keeps_it_from_the_disk_is_told_after_what_there_is(
    session: kernel_runtime.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> None:
        raise StorageFailed("the pack: No space left on device")

    session.run("x = 1")
    monkeypatch.setattr(inner_of(session).durable, "save", full)
    with pytest.raises(StorageFailed) as told:
        session.snapshot("here", durable=True)
    assert str(told.value) == (
        "the snapshot 'here' is kept in memory, but not on disk: the pack: No space left on device. "
        "When that is mended, checkpoint('here') keeps the present state on disk"
    )
    session.run("x = 2")
    session.restore("here")
    assert session.run("x").result == "1"


def test_a_writer_ends_with_who_waits_for_it(session: kernel_runtime.Session) -> None:
    """However long user code holds it up."""
    session.run("class Endless:\n    def __reduce__(self):\n        while True: pass\nendless = Endless()")
    inner = inner_of(session)

    async def given_up() -> None:
        writing = asyncio.ensure_future(inner.checkpoint())
        async with asyncio.timeout(60):
            while not any(one.state == "R" and one.cpu > 0.2 for one in strays(inner)):  # in it
                await asyncio.sleep(0.01)
        writing.cancel()
        await asyncio.wait([writing])

    session._portal.call(given_up())
    assert only_live_runs(inner), processes(inner)

"""What runs between cells and is none (a front's query, a completion), and what ends there: no cell's work is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from kernel_runtime import wire
from kernel_runtime.client.opened import execute_request
from kernel_runtime.domain.errors import NotFound
from kernel_runtime.domain.snapshot import Budget
from kernel_runtime.workers import snapshots
from tests.workers.branches import inner_of, only_live_runs, processes

if TYPE_CHECKING:
    from collections.abc import Callable

    import kernel_runtime
    from kernel_runtime.domain.verdict import Verdict

_EACH = Budget(pause=60, automatic=8)
_END = "import os; os._exit(3)"


@pytest.fixture
def session(open_session: Callable[..., kernel_runtime.Session]) -> kernel_runtime.Session:
    return open_session(snapshots=_EACH)


def query(session: kernel_runtime.Session, code: str = "x") -> Verdict | None:
    """As a front's variable viewer asks: silent, and without a count."""
    return session._portal.call(inner_of(session).submit(execute_request(code), lambda _: None))


def test_a_query_is_no_cell_to_be_undone(session: kernel_runtime.Session) -> None:
    for number in range(9):
        session.run(f"x = {number}")
        query(session)
    assert len(session.snapshots()) == 8
    for number in reversed(range(1, 8)):
        session.undo()
        assert session.value("x") == number


def test_however_many_queries_push_no_snapshot_out(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    session.run("x = 2")
    for _ in range(9):
        query(session)
    assert len(session.snapshots()) == 2
    session.undo()
    assert session.value("x") == 1


def test_redo_goes_where_it_went_after_a_query(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    session.run("x = 2")
    session.undo()
    query(session, "x = 7")
    session.redo()
    assert session.value("x") == 2, "what the query changed is not kept"
    session.undo()
    session.run("x")
    with pytest.raises(NotFound, match="nothing to redo"):
        session.redo()


def test_a_query_that_ends_its_process_costs_nothing(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    session.run("x = 2")
    query(session, "y = 3")
    for _ in range(5):
        verdict = query(session, f"x = 7; {_END}")
        assert verdict is not None
        assert verdict.state == "The variables are as they were after cell 2."
        assert session.value("x") == 2
    assert len(session.snapshots()) == 3, "the two before the cells, and the one that came back"
    session.undo()
    assert session.value("x") == 1
    session.redo()
    assert session.value("x") == 2
    assert only_live_runs(inner_of(session)), processes(inner_of(session))


def test_a_query_before_the_first_cell(session: kernel_runtime.Session) -> None:
    query(session, "x = 0")
    assert query(session, f"x = 1; {_END}") is not None
    session.run("x = 2")
    session.run("x = 3")
    session.undo()
    assert session.value("x") == 2
    session.undo()
    with pytest.raises(NotFound, match="the present state contains none"):
        session.undo()


def test_what_a_query_would_have_heard_is_told_with_the_next_cell(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    session.run("import os, threading; threading.Timer(0.05, os._exit, (3,)).start()")
    ended(session)
    query(session)
    assert "exited with status 3, while no cell ran." in session.run("x").stderr


def test_a_kill_while_nothing_runs_loses_no_cell(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    session.run("x = 2")
    session.put("y", 3)
    for _ in range(9):
        session.kill()
        assert session.value("x") == 2
    assert len(session.snapshots()) == 3, "each kill's takes the place of the last one's"
    told = session.run("y")
    assert told.result == "3"
    assert "killed by the person" in told.stderr
    assert "while no cell ran. The variables are as they were after cell 2." in told.stderr
    session.undo(2)
    assert session.value("x") == 1


def test_a_kill_is_over_when_it_returns(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    for number in range(5):
        session.kill()
        assert session.run(f"x + {number}").result == str(1 + number)


def test_a_kill_of_what_cannot_be_copied_goes_to_the_newest_snapshot(
    open_session: Callable[..., kernel_runtime.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "LAST_SECONDS", 0.1)
    session = open_session(snapshots=_EACH)
    session.run("x = 1")
    session.run("x = 2; import asyncio, time; _ = asyncio.get_event_loop().call_soon(time.sleep, 1000)")
    session.kill()
    assert session.value("x") == 1
    off = open_session(automatic=False)
    off.run("x = 1")
    off.kill()
    assert off.run("globals().get('x')").result is None, "nothing is copied where nobody wants it"


@pytest.mark.usefixtures("spares_when_told")
@pytest.mark.parametrize("by", ["itself", "a completion"])
def test_an_end_between_cells_goes_to_the_copy_of_the_present(
    session: kernel_runtime.Session, by: str
) -> None:
    session.run("x = 1")
    session.run("import os\nclass Ends:\n    def __dir__(self): os._exit(3)\nends = Ends()\nx = 2")
    session._portal.call(inner_of(session).snapshots.spares.make())
    assert inner_of(session).snapshots.kept.present.pids
    if by == "itself":
        end(session)
    else:
        session.put("y", 3)
        complete(session, "ends.")
    assert session.value("x") == 2
    assert session.snapshots()[-1].cell == 2
    session.undo()
    assert session.value("x") == 1
    assert only_live_runs(inner_of(session)), processes(inner_of(session))


@pytest.mark.usefixtures("spares_when_told")
def test_the_copy_of_what_was_before_a_cell_is_not_its_state(session: kernel_runtime.Session) -> None:
    """The control: where a cell has begun since, its moment before it is the newest."""
    session.run("x = 1")
    session.run("x = 2")
    session._portal.call(inner_of(session).snapshots.spares.make())
    session.run("x = 3")
    end(session)
    assert session.value("x") == 2
    assert "as they were after cell 2" in session.run("x").stderr


def complete(session: kernel_runtime.Session, code: str) -> None:
    content = msgspec.json.encode({"code": code, "cursor_pos": len(code)})
    request = wire.Request(id="complete", kind="complete_request", content=content)
    assert session._portal.call(inner_of(session).submit(request, lambda _: None)) is not None


def end(session: kernel_runtime.Session) -> None:
    """As if its process ended by itself."""
    inner = inner_of(session)

    async def end_branches() -> None:
        assert inner.init is not None
        await inner.init.end_branches()

    session._portal.call(end_branches())
    ended(session)


def ended(session: kernel_runtime.Session) -> None:
    """Until its process has ended by itself, and another one stands."""
    inner = inner_of(session)

    async def wait() -> None:
        while not inner._unseen:
            await asyncio.sleep(0.01)
        await inner.ready()

    session._portal.call(wait())

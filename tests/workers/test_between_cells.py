"""What runs between cells and is none (a front's query, a completion), and what ends there: no cell's work is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.client.opened import execute_request
from kernel_runtime.domain.errors import NotFound
from kernel_runtime.domain.snapshot import Budget
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


def ended(session: kernel_runtime.Session) -> None:
    """Until its process has ended by itself, and another one stands."""
    inner = inner_of(session)

    async def wait() -> None:
        while not inner._unseen:
            await asyncio.sleep(0.01)
        await inner.ready()

    session._portal.call(wait())

"""``Session.gate`` and its kin, and ``Session.replay``, on real guests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime import AsyncSession, Conflict, GuestCodeError, Invalid, NotFound, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SUM = """
def total(n):
    found = 0
    for number in range(n):
        found += number
    return found
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with Session(memory="512M", workdir=tmp_path_factory.mktemp("gates")) as session:
        yield session


@pytest.fixture
def session(shared: Session) -> Session:
    shared.restart()
    for made in shared.gates():
        shared.gate_drop(made.number)
    shared.run(SUM)
    return shared


def test_a_copy_is_shown_edited_resumed_and_dropped(session: Session) -> None:
    session.gate("total", "n in {5}")
    assert session.run("print(total(3)); print(total(5)); done = True").stdout == "3\n10\n"
    (copy,) = session.gates()
    assert copy.gate.startswith("total, line")
    calls = session.gate_show(copy.number)
    assert [call.place.partition(",")[0] for call in calls] == ["total", "<module>"]
    assert calls[0].names == {"n": "5"}
    assert session.gate_eval(copy.number, "n * 2") == "10"
    with pytest.raises(Invalid, match="ZeroDivisionError"):
        session.gate_eval(copy.number, "1 / 0")
    with pytest.raises(Conflict, match=rf"in Python gate_resume\({copy.number}\)"):
        session.restore(copy.number)
    assert session.gate_set(str(copy.number), "n", "n - 1") == "4"
    session.run("del done")
    seen: list[Any] = []
    assert session.gate_resume(copy.number, on_output=seen.append).stdout == "6\n"
    assert seen
    assert session.value("done") is True
    session.redo()
    assert session.run("print('done' in globals())").stdout == "False\n"
    assert session.gate_drop(copy.number).number == copy.number
    assert session.gates() == []


def test_a_gate_waits_and_is_taken_away(session: Session) -> None:
    session.gate("total", wait=True)
    with pytest.raises(GuestCodeError) as stopped:
        session.run("try:\n    x = total(4)\nexcept Exception:\n    x = 'swallowed'\nprint(x)")
    assert stopped.value.ename == "StoppedAtGate"
    assert session.run("print('x' in globals())").stdout == "False\n"
    assert session.gate_resume(session.gates()[0].number).stdout == "6\n"
    session.gate("total")
    session.gate_off("total")
    session.run("total(3)")
    assert len(session.gates()) == 1


def test_setting_one_is_no_run(session: Session) -> None:
    before = session.run("1").cell
    session.gate("total")
    assert session.run("print(_, 'total' in In[-2])").stdout == "1 False\n"
    assert session.run("1").cell == before + 2


def test_an_error_after_the_gate_is_raised_or_returned(session: Session) -> None:
    session.gate("total")
    session.run("total(1)")
    (copy,) = session.gates()
    session.gate_set(copy.number, "n", "'a'")
    with pytest.raises(GuestCodeError, match="TypeError"):
        session.gate_resume(copy.number)
    assert session.gate_resume(copy.number, check=False).error is not None


#: What is wrong, and what is said of it.
WRONG: dict[str, tuple[Callable[[Session], object], type[Exception], str]] = {
    "no function": (lambda s: s.gate("nothing"), Invalid, "there is no function 'nothing'"),
    "no name": (lambda s: s.gate("total if 1"), Invalid, "gate: 'total if 1' is not the name of a function"),
    "no text": (lambda s: s.gate(3), Invalid, "gate: 3 is not the name of a function"),  # type: ignore[arg-type]
    "condition": (lambda s: s.gate("total", "1 +"), Invalid, "is no expression"),
    "number": (lambda s: s.gate("total", 1), Invalid, "gate: condition: 1 is not an expr"),  # type: ignore[arg-type]
    "lines": (lambda s: s.gate("total", "n\nx = 1"), Invalid, "the condition is more than one line"),
    "off": (lambda s: s.gate_off("total"), Invalid, "there is no gate in 'total'"),
    "copy": (lambda s: s.gate_show(99), NotFound, "there is no copy 99"),
    "type": (lambda s: s.gate_show(None), Invalid, "gate_show: None is not a snapshot"),  # type: ignore[arg-type]
    "empty": (lambda s: s.gate_eval(99, " "), Invalid, "gate_eval: ' ' is not an expression"),
    "variable": (lambda s: s.gate_set(99, "a b", "1"), Invalid, "gate_set: 'a b' is not the name of a local"),
    "resumed": (lambda s: s.gate_resume(99), NotFound, "there is no copy 99"),
    "dropped": (lambda s: s.gate_drop(99), NotFound, "there is no copy 99"),
    "no cell": (lambda s: s.replay(99), NotFound, "cell 99 did not run in this guest; known cells: 1"),
    "no whole": (lambda s: s.replay("1"), Invalid, "replay: '1' is not a whole number"),  # type: ignore[arg-type]
    "start": (lambda s: s.replay(1, start=[]), Invalid, r"replay: start: \[\] is not"),  # type: ignore[arg-type]
    "unknown": (lambda s: s.replay(1, start="nowhere"), NotFound, "nowhere"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(session: Session, name: str) -> None:
    ask, kind, told = WRONG[name]
    with pytest.raises(kind, match=told):
        ask(session)
    assert session.run("print(total(3), 'x' in globals())").stdout == "3 False\n"


def test_a_snapshot_that_was_not_made_at_a_gate_is_no_copy(session: Session) -> None:
    made = session.snapshot()
    with pytest.raises(Conflict, match="was not made at a gate"):
        session.gate_resume(made.number)


MODEL = """
class Model:
    def __init__(self):
        self.__fitted = 0
    def fit(self, n):
        self.__fitted += n
        return self.__fitted
model = Model()
"""


def test_gates_are_no_part_of_what_is_saved_and_compared(session: Session) -> None:
    made = session.run(MODEL)
    session.snapshot("before")
    session.gate("Model.fit", "n > 1")
    session.gate("total", wait=True)
    kept = session.checkpoint()
    assert kept.skipped == {}
    assert {"Model", "model", "total"} <= set(kept.names)
    session.snapshot("after")
    assert session.diff("before", "after").changes == []
    replayed = session.replay(made.cell).difference
    assert replayed is not None
    assert replayed.changes == []
    assert session.run("print(model.fit(2))").stdout == "2\n"
    assert [copy.gate.partition(",")[0] for copy in session.gates()] == ["Model.fit"], "they are still there"
    assert session.gate_eval(session.gates()[0].number, "total(4)") == "6"
    session.load(kept.id)
    assert session.run("print(model.fit(3), total(4))").stdout == "3 6\n"
    assert len(session.gates()) == 1, "what comes from the disk has none"


def test_a_run_is_replayed_on_the_state_it_first_had(session: Session) -> None:
    session.run("x = 1")
    second = session.run("x += 1; print(x)")
    same = session.replay(second.cell)
    assert same.outputs == []
    assert same.difference is not None
    assert same.difference.changes == []
    session.run("x = 7")
    session.snapshot("seven")
    other = session.replay(second.cell, start="seven")
    assert other.outputs == ["stdout:", "  -2", "  +8"]
    assert "cell 3 again, on the state of 'seven'" in str(other)
    assert "~ x: int" in str(other)
    assert session.value("x") == 7, "the present is as it was"
    session.restart()
    with pytest.raises(NotFound, match="known cells: none yet"):
        session.replay(second.cell)


def test_a_replay_that_does_not_end_by_itself_says_so(session: Session) -> None:
    session.run("import os\nif os.path.exists('/tmp/again'): os._exit(3)\nopen('/tmp/again', 'w').close()")
    replayed = session.replay(2)
    assert replayed.verdict is not None
    assert replayed.difference is None
    assert "it did not end by itself" in str(replayed)
    assert session.run("print(total(3))").stdout == "3\n"


def test_the_same_with_await(tmp_path: Path) -> None:
    async def work() -> None:
        async with AsyncSession(memory="512M", workdir=tmp_path) as session:
            await session.run(SUM)
            await session.gate("total")
            await session.run("print(total(3))")
            (copy,) = session.gates()
            assert (await session.gate_show(copy.number))[0].names == {"n": "3"}
            assert await session.gate_eval(copy.number, "n") == "3"
            assert await session.gate_set(copy.number, "n", "4") == "4"
            assert (await session.gate_resume(copy.number)).stdout == "6\n"
            assert (await session.gate_drop(copy.number)).gate == copy.gate
            await session.gate("total")
            await session.gate_off("total")
            assert (await session.replay(1)).outputs == []

    asyncio.run(work())

"""Random sequences of runs, snapshots, restores, undos, redos, branches and kills against a model in a dict."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kernel_runtime.domain.errors import Conflict, NotFound
from kernel_runtime.domain.snapshot import Budget
from kernel_runtime.domain.snapshot_tree import Tree
from kernel_runtime.workers import spares

if TYPE_CHECKING:
    from collections.abc import Callable

    import kernel_runtime

State = dict[str, int]
KEYS, NAMES, LINES = (
    st.sampled_from("ab"),
    st.sampled_from(["one", "two"]),
    st.sampled_from(["main", "other"]),
)
_BEGIN = "state = {}\ncounted = iter(range(1000))"


class Sequences(RuleBasedStateMachine):
    """``past`` and ``future`` are what undo and redo go to; ``drawn`` is how far an iterator has come."""

    session: ClassVar[kernel_runtime.Session]

    @initialize()
    def begin(self) -> None:
        session = self.session
        for snapshot in session.snapshots():
            session.drop(snapshot.number)
        session.restart()
        inner: Any = session._session._session

        async def forget() -> None:
            inner.snapshots.kept.become(Tree())

        session._portal.call(forget())
        session.run(_BEGIN)
        self.state: State = {"drawn": 0}
        self.past: list[State] = [{}]
        self.future: list[tuple[State, list[State]]] = []
        self.named: dict[str, State] = {}
        self.heads: dict[str, State] = {}
        self.line = "main"

    def _now(self) -> State:
        return copy.deepcopy(self.state)

    def _before_cell(self) -> None:
        self.future.clear()
        self.past.append(self._now())

    @rule(key=KEYS, value=st.integers(0, 9))
    def run(self, key: str, value: int) -> None:
        self._before_cell()
        self.session.run(f"state[{key!r}] = {value}; state['drawn'] = next(counted) + 1")
        self.state |= {key: value, "drawn": self.state["drawn"] + 1}

    @rule(how=st.sampled_from(["os._exit(1)", "os.kill(os.getpid(), 9)"]))
    def kill(self, how: str) -> None:
        self.future.clear()
        result = self.session.run(f"import os; state['a'] = -1; list(counted); {how}", check=False)
        assert result.verdict is not None
        assert result.verdict.state == "The variables are as they were before this cell."

    @rule(name=NAMES)
    def snapshot(self, name: str) -> None:
        if name in self.named:
            with pytest.raises(Conflict):
                self.session.snapshot(name)
            return
        self.session.snapshot(name)
        self.named[name] = self._now()

    @rule(name=NAMES)
    def drop(self, name: str) -> None:
        if self.named.pop(name, None) is None:
            with pytest.raises(NotFound):
                self.session.drop(name)
        else:
            self.session.drop(name)

    @rule(name=NAMES)
    def restore(self, name: str) -> None:
        if name not in self.named:
            with pytest.raises(NotFound):
                self.session.restore(name)
            return
        self.session.restore(name)
        self.future.append((self._now(), []))
        self.state = copy.deepcopy(self.named[name])

    @rule(cells=st.integers(1, 2))
    def undo(self, cells: int) -> None:
        if cells >= len(self.past):  # the first is the cell that began it all
            return
        self.session.undo(cells)
        undone = self.past[-cells:]
        self.past = self.past[:-cells]
        self.future.append((self._now(), undone))
        self.state = copy.deepcopy(undone[0])

    @rule()
    def redo(self) -> None:
        if not self.future:
            with pytest.raises(NotFound):
                self.session.redo()
            return
        self.session.redo()
        self.state, undone = self.future.pop()
        self.past += undone

    @rule(line=LINES)
    def branch(self, line: str) -> None:
        if line == self.line:
            with pytest.raises(Conflict):
                self.session.branch(line)
            return
        self.session.branch(line)
        self.heads[self.line] = self._now()
        self.state = copy.deepcopy(self.heads.pop(line, self.state))
        self.line, self.past, self.future = line, [{}], []

    @invariant()
    def the_session_has_the_models_state(self) -> None:
        if hasattr(self, "state"):
            assert {"drawn": 0} | self.session.value("state") == self.state
            assert {s.name for s in self.session.snapshots() if s.name in ("one", "two")} == set(self.named)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rest", [0.0, 1000.0], ids=["spares at once", "no spares"])
def test_sequences_agree_with_the_model(
    open_session: Callable[..., kernel_runtime.Session], monkeypatch: pytest.MonkeyPatch, rest: float
) -> None:
    """However soon copies are made ahead, or while what else goes on."""
    monkeypatch.setattr(spares, "REST_SECONDS", rest)
    monkeypatch.setattr(spares, "WORTH", 0)
    Sequences.session = open_session(snapshots=Budget(pause=60, automatic=16))
    run_state_machine_as_test(
        Sequences,
        settings=settings(
            max_examples=500,
            stateful_step_count=5,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

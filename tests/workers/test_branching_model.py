"""Random sequences of cells, threads, snapshots, restores, undos, redos, branches, kills and budgets against a model."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kernel_runtime.domain.errors import Conflict, NotFound, UnsafeThreads
from kernel_runtime.domain.snapshot import Budget
from kernel_runtime.domain.snapshot_tree import Tree
from kernel_runtime.workers import spares

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import kernel_runtime

State = dict[str, int]
KEYS, NAMES, LINES = (
    st.sampled_from("ab"),
    st.sampled_from(["one", "two"]),
    st.sampled_from(["main", "other"]),
)
BUDGET = Budget(pause=60, automatic=32)
_BEGIN = "state = {}\ncounted = iter(range(1000))"
_THREAD = "import threading; stop = threading.Event(); beside = threading.Thread(target=stop.wait, daemon=True); beside.start()"


@dataclass(eq=False)
class Moment:
    """One snapshot: the state, the moments before its cells, and the snapshot that it came from."""

    number: int
    state: State
    past: tuple[Moment | None, ...]
    parent: Moment | None
    gone: bool = False


class Sequences(RuleBasedStateMachine):
    """``past``: the moment before each cell, None where there could be none; ``future``: what redo goes to.
    ``drawn`` is how far an iterator has come; ``threaded``: a thread runs beside."""

    session: ClassVar[kernel_runtime.Session]

    @initialize()
    def begin(self) -> None:
        session = self.session
        self.inner: Any = session._session._session

        async def forget() -> None:
            self.inner.snapshots.kept.become(Tree())

        session._portal.call(forget())
        session.restart()
        session.run(_BEGIN)
        self.moments: list[Moment] = []
        self.base: Moment | None = None
        self.state: State = {"drawn": 0}
        self.past: tuple[Moment | None, ...] = (None,)  # nobody goes there
        self.future: list[Moment | None] = []
        self.named: dict[str, Moment] = {}
        self.heads: dict[str, Moment] = {}
        self.line, self.threaded = "main", False
        self._taken(session.snapshot("root", pin=True).number)

    # -- the model -------------------------------------------------------------------------------

    @property
    def tree(self) -> Tree:
        tree: Tree = self.inner.snapshots.kept.tree
        return tree

    def _taken(self, number: int) -> Moment:
        """A snapshot of the present."""
        self.base = Moment(number, copy.deepcopy(self.state), self.past, self.base)
        self.moments.append(self.base)
        return self.base

    def _go(self, moment: Moment) -> None:
        assert not moment.gone
        self.state, self.past, self.base = copy.deepcopy(moment.state), moment.past, moment
        self.threaded = False  # no copy has threads

    def _leave_for(self, moment: Moment) -> None:
        """What is left is redone to, if it could be copied."""
        left = None if self.threaded else self._taken(self.tree.future[-1].number or 0)
        self._go(moment)
        self.future.append(left)

    def _without_future(self) -> None:
        for moment in filter(None, self.future):
            moment.gone = True
        self.future.clear()

    def _ran(self, code: str, *, skipped: bool = False) -> None:
        """A cell, and the moment before it."""
        with self._short_of_memory() if skipped else contextlib.nullcontext():
            self.session.run(code)
        self._without_future()
        is_there = not (skipped or self.threaded)
        self.past += (self._taken(self.inner.snapshots.before) if is_there else None,)

    @contextlib.contextmanager
    def _short_of_memory(self) -> Iterator[None]:
        meter = self.inner.init.meter
        meter.is_nearly_full = lambda: True
        try:
            yield
        finally:
            del meter.is_nearly_full

    # -- cells -----------------------------------------------------------------------------------

    @rule(key=KEYS, value=st.integers(0, 9), skipped=st.sampled_from([False, False, True]))
    def run(self, key: str, value: int, skipped: bool) -> None:
        self._ran(f"state[{key!r}] = {value}; state['drawn'] = next(counted) + 1", skipped=skipped)
        self.state |= {key: value, "drawn": self.state["drawn"] + 1}

    @rule()
    def begin_or_end_a_thread(self) -> None:
        self._ran("stop.set(); beside.join()" if self.threaded else _THREAD)
        self.threaded = not self.threaded

    @rule(how=st.sampled_from(["os._exit(1)", "os.kill(os.getpid(), 9)"]))
    def kill(self, how: str) -> None:
        result = self.session.run(f"import os; state['a'] = -1; list(counted); {how}", check=False)
        self._without_future()
        if not self.threaded:
            self._taken(self.inner.snapshots.before)
        newest = self.base
        while newest is not None and newest.gone:
            newest = newest.parent
        assert newest is not None
        assert result.verdict is not None
        is_before = "The variables are as they were before this cell."
        assert (result.verdict.state == is_before) is not self.threaded
        self._go(newest)

    # -- snapshots -------------------------------------------------------------------------------

    @rule(name=NAMES)
    def snapshot(self, name: str) -> None:
        if name in self.named or self.threaded:
            with pytest.raises(Conflict if name in self.named else UnsafeThreads):
                self.session.snapshot(name)
            return
        self.named[name] = self._taken(self.session.snapshot(name).number)

    @precondition(lambda self: self.named)
    @rule(name=NAMES)
    def drop(self, name: str) -> None:
        if name not in self.named:
            with pytest.raises(NotFound):
                self.session.drop(name)
            return
        self.session.drop(name)
        self.named.pop(name).gone = True

    @precondition(lambda self: len(self.past) > 1)
    @rule(cells=st.integers(1, 4))
    def drop_the_one_before_a_cell(self, cells: int) -> None:
        moment = self.past[-cells] if cells <= len(self.past) else None
        if moment is not None and not moment.gone:
            self.session.drop(moment.number)
            moment.gone = True

    @precondition(lambda self: len(self.past) > 2)
    @rule(automatic=st.integers(1, 2))
    def keep_fewer(self, automatic: int) -> None:
        """What goes is looked at: nothing but automatic ones, and not the one before the last cell."""

        async def keep(budget: Budget) -> None:
            self.inner.snapshots.set_budget(budget)

        self.session._portal.call(keep(Budget(pause=60, automatic=automatic)))
        self.session._portal.call(keep(BUDGET))
        known = {snapshot.number for snapshot in self.session.snapshots()}
        spared = {*self.named.values(), *self.heads.values(), *self.future, *self.past[-1:]}
        for moment in self.moments:
            assert moment.gone or moment.number in known or moment not in spared
            moment.gone |= moment.number not in known

    # -- ways ------------------------------------------------------------------------------------

    @precondition(lambda self: self.named)
    @rule(name=NAMES)
    def restore(self, name: str) -> None:
        if name not in self.named:
            with pytest.raises(NotFound):
                self.session.restore(name)
            return
        restored = self.session.restore(name)
        assert bool(restored.unkept) is self.threaded
        self._leave_for(self.named[name])

    @precondition(lambda self: len(self.past) > 1)
    @rule(cells=st.sampled_from([1, 1, 2, 3, 4]))
    def undo(self, cells: int) -> None:
        if cells == len(self.past):  # the first is the cell that began it all
            return
        moment = self.past[-cells] if cells < len(self.past) else None
        if moment is None or moment.gone:
            with pytest.raises(NotFound if cells > len(self.past) else Conflict, match="cannot be undone"):
                self.session.undo(cells)
            return
        assert bool(self.session.undo(cells).unkept) is self.threaded
        self._leave_for(moment)

    @precondition(lambda self: len(self.past) > 1 or self.future)
    @rule()
    def redo(self) -> None:
        left = self.future[-1] if self.future else None
        if left is None:
            with pytest.raises(Conflict if self.future else NotFound):
                self.session.redo()
            return
        self.session.redo()
        self._go(left)
        self.future.pop()

    @rule(line=LINES)
    def branch(self, line: str) -> None:
        if line == self.line or self.threaded:
            with pytest.raises(Conflict if line == self.line else UnsafeThreads):
                self.session.branch(line)
            return
        self.session.branch(line)
        head = self._taken(self.tree.heads[self.line])
        self._without_future()
        if line in self.heads:
            self._go(self.heads.pop(line))
        self.heads[self.line], self.line = head, line

    @precondition(lambda self: self.heads)
    @rule()
    def drop_where_the_other_line_was_left(self) -> None:
        for head in self.heads.values():
            with pytest.raises(Conflict, match="unpin it first"):
                self.session.drop(head.number)

    @invariant()
    def the_session_has_the_models_state(self) -> None:
        if hasattr(self, "state"):
            assert {"drawn": 0} | self.session.value("state") == self.state
            assert {s.name for s in self.session.snapshots() if s.name in ("one", "two")} == set(self.named)
            assert len(self.tree.past) == len(self.past)


#: 500 in all, and as many of them as there is time for while one works.
MANY, SOME = 250, 10


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rest", [0.0, 1000.0], ids=["spares at once", "no spares"])
@pytest.mark.parametrize(("number", "steps"), [pytest.param(MANY, 10, marks=pytest.mark.slow), (SOME, 6)])
def test_sequences_agree_with_the_model(
    open_session: Callable[..., kernel_runtime.Session],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    steps: int,
    rest: float,
) -> None:
    """However soon copies are made ahead, or while what else goes on."""
    monkeypatch.setattr(spares, "REST_SECONDS", rest)
    monkeypatch.setattr(spares, "WORTH", 0)
    Sequences.session = open_session(snapshots=BUDGET)
    run_state_machine_as_test(
        Sequences,
        settings=settings(
            max_examples=number,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

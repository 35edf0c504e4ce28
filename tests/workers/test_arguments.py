"""Arguments of the wrong type: ``Invalid`` says what is wanted, and nothing has happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import kernel_runtime
from kernel_runtime.domain.errors import Invalid, NotFound
from kernel_runtime.domain.snapshot import Budget

if TYPE_CHECKING:
    from collections.abc import Callable

_TITLE = "is not a snapshot's name or number, like 'clean' or 3"
_NAME = "is not a name, like 'clean'"
_VARIABLES = "is not a list of variables' names"
WRONG: list[tuple[Callable[[Any], object], str]] = [
    (lambda session: session.undo("1"), "^undo: '1' is not a whole number, like 1$"),
    (lambda session: session.undo(1.0), "undo: 1.0 is not a whole number"),
    (lambda session: session.undo(True), "undo: True is not a whole number"),
    (lambda session: session.undo(None), "undo: None is not a whole number"),
    (lambda session: session.branch(None), f"^branch: None {_NAME}$"),
    (lambda session: session.branch(3), f"branch: 3 {_NAME}"),
    (lambda session: session.snapshot(5), f"snapshot: 5 {_NAME}"),
    (lambda session: session.snapshot(["a" * 9999]), rf"^snapshot: \['a{{1,20}}\.\.\.a+'\] {_NAME}$"),
    (lambda session: session.restore(None), f"^restore: None {_TITLE}$"),
    (lambda session: session.restore(1.0), f"restore: 1.0 {_TITLE}"),
    (lambda session: session.restore(b"point"), f"restore: b'point' {_TITLE}"),
    (lambda session: session.pin(None), f"pin: None {_TITLE}"),
    (lambda session: session.drop(None), f"drop: None {_TITLE}"),
    (lambda session: session.diff(None), f"diff: None {_TITLE}"),
    (lambda session: session.diff("point", 1.5), f"diff: 1.5 {_TITLE}"),
    (lambda session: session.written_since(None), f"written_since: None {_TITLE}"),
    (lambda session: session.checkpoint(5), f"checkpoint: 5 {_NAME}"),
    (lambda session: session.load(None), "^load: None is not a checkpoint's id or label, like 'monday'$"),
    (lambda session: session.load("a", names="x"), f"^load: names: 'x' {_VARIABLES}"),
    (lambda session: session.load("a", names=[1]), rf"load: names: \[1\] {_VARIABLES}"),
    (lambda session: session.load("a", names=1), f"load: names: 1 {_VARIABLES}"),
]


def test_what_is_wanted_is_said_and_nothing_has_happened(clean_session: kernel_runtime.Session) -> None:
    clean_session.run("x = 1")
    clean_session.snapshot("point")
    clean_session.run("x = 2")
    before = clean_session.snapshots()
    for ask, said in WRONG:
        with pytest.raises(Invalid, match=said):
            ask(clean_session)
    assert (clean_session.value("x"), clean_session.line) == (2, "main")
    assert [made.number for made in clean_session.snapshots()] == [made.number for made in before]


def test_the_control_what_is_of_the_right_type_is_taken(session: kernel_runtime.Session) -> None:
    for number in (1, 2, 3):
        session.run(f"x = {number}")
    point = session.snapshot()
    session.undo(np.int64(2))
    assert session.value("x") == 1
    session.restore(np.int32(point.number))
    assert session.value("x") == 3
    with pytest.raises(NotFound, match="no checkpoint"):
        session.load("never", names=("x",))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, "^snapshots: 5 is not a budget, like Budget"),
        (0, "snapshots: 0 is not a budget"),
        ({"count": 5}, r"snapshots: \{'count': 5\} is not a budget"),
        (Budget(count="5"), "^snapshots: count is a whole number, not '5'$"),  # type: ignore[arg-type]
        (Budget(automatic=None), "snapshots: automatic is a whole number, not None"),  # type: ignore[arg-type]
        (Budget(memory="2G"), "snapshots: memory is a number of bytes, not '2G'"),  # type: ignore[arg-type]
        (Budget(share="5%"), "snapshots: share is a number, like 0.05, not '5%'"),  # type: ignore[arg-type]
        (Budget(count=-1), "cannot be negative"),
    ],
)
def test_a_budget_that_is_none(given: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        kernel_runtime.Session(snapshots=given)


def test_a_budget_that_is_one() -> None:
    for given in (None, Budget(), Budget(count=5, memory=2 << 30, share=0.1, pause=0)):
        kernel_runtime.Session(snapshots=given)

"""Arguments of the wrong type: ``Invalid`` says what is wanted, and nothing has happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import kernel_runtime
from kernel_runtime.domain.checkpoint import Retention
from kernel_runtime.domain.errors import Invalid, NotFound
from kernel_runtime.domain.snapshot import Budget, Saving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TITLE = "is not a snapshot's name or number, like 'clean' or 3"
_NAME = "is not a name, like 'clean'"
_VARIABLE = "is not the name of a variable, like 'x'"
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
    (lambda session: session.throttle("x"), "^cpus: 'x' is not a number of cores, like 0.5$"),
    (lambda session: session.throttle(float("nan")), "cpus: nan is not a number of cores"),
    (lambda session: session.throttle(True), "cpus: True is not a number of cores"),
    (lambda session: session.put(3, 1), f"^put: 3 {_VARIABLE}$"),
    (lambda session: session.put("a b", 1), f"put: 'a b' {_VARIABLE}"),
    (lambda session: session.put("class", 1), f"put: 'class' {_VARIABLE}"),
    (lambda session: session.value(None), f"value: None {_VARIABLE}"),
    (lambda session: session.value("\ud800"), rf"value: '\\ud800' {_VARIABLE}"),
    (lambda session: session.run(3), r"^run: 3 is not code, like 'print\(1\)'$"),
    (lambda session: session.run(b"1"), "run: b'1' is not code"),
    (lambda session: session.run("'\ud800'"), r"half a character \(a lone surrogate\) at 1$"),
    (lambda session: session.run("1", cell="x"), "run: cell: 'x' is not a whole number"),
    (lambda session: session.run("1", on_output=3), "run: on_output: 3 is not a function"),
    (lambda session: session.run("1", on_input="x"), "run: on_input: 'x' is not a function"),
    (lambda session: session.revoke(3), "revoke: 3 is not a scope, like 'cache'"),
    (lambda session: session.files_diff(3), "files_diff: 3 is not a path"),
    (lambda session: session.files_keep(None), "files_keep: None is not a path"),
    (lambda session: session.files_drop("\0"), r"files_drop: '\\x00' is not a path"),
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


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"workdir": "/there/is/none"},
            "^workdir: /there/is/none does not exist; make it first, or give None",
        ),
        ({"workdir": __file__}, "workdir: .*test_arguments.py is no directory"),
        ({"workdir": 3}, "workdir: 3 is not a path"),
        ({"name": 3}, "^name: 3 is not text"),
        ({"idle": "soon"}, "^idle: 'soon' is not a time; write a number with ms, s, m, h, d or w, like 30s"),
        ({"idle": True}, "^idle: True is not a time"),
        ({"idle": -1}, "^idle: -1 is not a time"),
        ({"name": None}, "name: None is not text"),
        ({"policy": 3}, "policy: 3 is not a path"),
        ({"manifest": 3}, "manifest: 3 is not a path"),
        ({"allow": "cache"}, r"allow: 'cache' is not a list of scopes, like \['net:"),
        ({"allow": None}, "allow: None is not a list"),
        ({"deny": [3]}, r"deny: \[3\] is not a list"),
        ({"flood": 3}, "flood: 3 is not 'cut' or 'end'"),
        ({"level": 3}, "level: 3 is not a level, like 'strict'"),
        ({"rung": 3}, "rung: 3 is not a rung"),
        ({"limits": {"memory": "1G"}}, r"limits: .* is not Limits\(...\)"),
        ({"on_warning": 3}, "on_warning: 3 is not a function"),
    ],
)
def test_a_session_that_cannot_be_as_it_is_asked_for(given: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        kernel_runtime.Session(**given)


def test_a_session_as_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text('id = "a"')
    kernel_runtime.Session(workdir=tmp_path, manifest=tmp_path / "app.toml", allow=("cache",), deny={"clock"})
    kernel_runtime.Session(workdir=None, limits=kernel_runtime.Limits(memory=2**30), on_warning=print)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (600, r"^saving: 600 is not a Saving, like Saving\(every=600"),
        (Saving(every="10m"), "^saving: every is a number of seconds above 0, or None, not '10m'$"),  # type: ignore[arg-type]
        (Saving(every=0), "every is a number of seconds above 0"),
        (Saving(every=float("nan")), "every is a number of seconds above 0"),
        (Saving(cells=1.5), "cells is a whole number above 0"),  # type: ignore[arg-type]
        (Saving(cells=True), "cells is a whole number above 0"),
        (Saving(retention=5), r"^saving: retention is one, like Retention\(count=5\), not 5$"),  # type: ignore[arg-type]
        (Saving(retention=Retention(count=-1)), "count is a whole number above 0"),
        (Saving(retention=Retention(age="7d")), "age is a number of seconds above 0"),  # type: ignore[arg-type]
    ],
)
def test_a_saving_that_is_none(given: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        kernel_runtime.Session(saving=given)

"""Checkpoints that cannot be brought back as they are: nothing is changed, and it is said what can be done."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

import kernel_runtime
from kernel_runtime.domain.errors import Conflict, Damaged
from kernel_runtime.workers import checkpoints

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[kernel_runtime.Session]:
    """One whose checkpoints are this test's own."""
    with kernel_runtime.Session(memory="1G", workdir=None, name=request.node.name) as session:
        yield session


def _keep_and_cut(session: kernel_runtime.Session) -> str:
    """Keep a checkpoint, and lose what it wrote beside the ones before it."""
    packs = session._session._runtime._checkpoints(True).packs  # type: ignore[union-attr]
    before = set(packs.iterdir())
    kept = session.checkpoint()
    (new,) = set(packs.iterdir()) - before
    os.truncate(new, new.stat().st_size // 2)
    return kept.id


def test_of_a_damaged_one_nothing_comes_back(session: kernel_runtime.Session) -> None:
    session.run("a, fresh = 1, 'fresh'\ndef double(x): return 2 * x\nlater = []")
    session.checkpoint()
    session.run("import os\nzz = os.urandom(200_000)")
    cut = _keep_and_cut(session)
    session.run("a, zz = 2, 3\ndel fresh\ndef double(x): return 3 * x\nlater.append(a)")
    with pytest.raises(Damaged, match=r"lost: zz; what else is in it comes back by name \(names="):
        session.load(cut)
    assert session.run("(a, zz, 'fresh' in globals(), double(1), later)").result == "(2, 3, False, 3, [2])"
    assert session.load(cut, names=["a", "double"]).names == ["a", "double"]
    assert session.run("(a, zz, double(1))").result == "(1, 3, 2)"


LARGE = "import numpy as np\nsmall, large = 1, np.ones(25_000_000)"


def test_what_this_guest_may_not_have_is_refused_before_anything_is_sent(
    session: kernel_runtime.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.run(LARGE)
    kept = session.checkpoint()
    with kernel_runtime.Session(memory="128M", workdir=None) as narrow:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "_Arena", None)
            with pytest.raises(Conflict, match=r"it takes 191 MB, this guest may have 128 MB: .*memory="):
                narrow.load(kept.id)
        assert narrow.load(kept.id, names=["small"]).names == ["small"]  # the control
        assert narrow.run("small").result == "1"


def test_what_finds_no_room_beside_the_others_is_said(session: kernel_runtime.Session) -> None:
    session.run(LARGE)
    kept = session.checkpoint()
    with kernel_runtime.Session(memory="320M", workdir=None) as narrow:
        narrow.run("small = 2; other = bytearray(200 << 20)")
        with pytest.raises(Conflict, match=r"no room for 191 MB beside what this guest holds; delete"):
            narrow.load(kept.id)
        assert narrow.run("small").result == "2"
        narrow.run("del other")
        assert narrow.load(kept.id).names == ["large", "np", "small"]  # the control


def test_nothing_is_brought_back_into_a_running_cell(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    kept = session.checkpoint()
    session.run("x = 2")
    started, go = threading.Event(), threading.Event()
    seen: list[str | None] = []

    def wait(*_: object) -> str:
        started.set()
        go.wait(60)
        return ""

    def run() -> None:
        seen.append(session.run("input(); x", on_input=wait).result)

    running = threading.Thread(target=run)
    running.start()
    try:
        assert started.wait(60)
        with pytest.raises(Conflict, match="a cell is running: a checkpoint is restored between cells"):
            session.load(kept.id)
    finally:
        go.set()
        running.join(60)
    assert seen == ["2"]
    assert session.load(kept.id).names == ["x"]  # the control

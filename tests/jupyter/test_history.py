"""The history, as IPython's own accessor sees it and as clients ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.history import HistoryAccessor

from kernel_runtime.jupyter.history import MEMORY, History, Question
from tests.jupyter.kernels import running

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def filled(path: str, *sources: str) -> History:
    history = History(path)
    for line, source in enumerate(sources, 1):
        history.add(line, source)
    return history


def test_tail_range_search() -> None:
    history = filled(MEMORY, "a = 1", "b = 2", "a = 1", "c = 3")
    assert [row[2] for row in history.ask(Question("tail", n=2))] == ["a = 1", "c = 3"]
    assert history.ask(Question("tail", n=1, output=True))[0][2] == ("c = 3", None)
    assert [row[1] for row in history.ask(Question("range", start=2, stop=4))] == [2, 3]
    assert [row[1] for row in history.ask(Question("range", start=-2, stop=None))] == [3, 4]
    assert [row[1] for row in history.ask(Question("search", pattern="a*"))] == [1, 3]
    assert [row[1] for row in history.ask(Question("search", pattern="a*", unique=True))] == [3]
    assert [row[1] for row in history.ask(Question("search", pattern="*=*", n=2))] == [3, 4]
    assert history.ask(Question("nonsense")) == []
    history.close()


def test_sessions_follow_each_other_and_ipython_reads_them(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "history.sqlite")
    for source in ("first", "second"):
        filled(path, source).close()
    history = filled(path, "third")
    assert [row[2] for row in history.ask(Question("range", session=-1))] == ["second"]
    assert [row[2] for row in history.ask(Question("tail", n=3))] == ["first", "second", "third"]
    history.close()
    with HistoryAccessor(hist_file=path) as accessor:
        assert [row[2] for row in accessor.get_tail(3, include_latest=True)] == ["first", "second", "third"]
        assert accessor.get_session_info(1)[3] == 1


def test_a_broken_file_is_moved_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "history.sqlite"
    path.write_bytes(b"this is no database" * 1000)
    history = filled(str(path), "kept")
    assert [row[2] for row in history.ask(Question("tail"))] == ["kept"]
    history.close()
    assert list(tmp_path.glob("*.corrupt-*"))
    assert "moved to" in capsys.readouterr().err


def test_an_unwritable_place_costs_the_history_and_no_cell(capsys: pytest.CaptureFixture[str]) -> None:
    history = filled("/proc/nowhere/history.sqlite", "kept")
    assert history.ask(Question("tail")) in ([], [(1, 1, "kept")])
    history.close()
    assert "history" in capsys.readouterr().err


def test_a_kernel_writes_the_file_named_by_its_arguments(tmp_path: Path) -> None:
    path = tmp_path / "mine.sqlite"
    with running("kernel_runtime.jupyter.kernel", f"--HistoryManager.hist_file={path}") as kernel:
        kernel.run("40 + 2")
    with HistoryAccessor(hist_file=str(path)) as accessor:
        assert [row[2] for row in accessor.get_tail(1, include_latest=True)] == ["40 + 2"]

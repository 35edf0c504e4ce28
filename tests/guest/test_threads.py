"""OpenMP runtimes are found where they are mapped; looked for again when modules have come, not before each copy.
Threads that are leaving are given time."""

from __future__ import annotations

import itertools
import mmap
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.guest import threads

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    path = tmp_path / "site packages" / "libgomp-é.so.1"
    path.parent.mkdir()
    path.write_bytes(b"\x7fELF")
    return path


def test_a_runtime_is_found_once_a_module_has_come(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_openmp", (0, []))
    before = threads.openmp_libraries()
    with runtime.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        assert threads.openmp_libraries() == before, "nothing was imported: there is nothing to look for"
        monkeypatch.setitem(sys.modules, "a_library_with_openmp", ModuleType("a_library_with_openmp"))
        assert threads.openmp_libraries() == sorted([*before, str(runtime)])


@pytest.mark.parametrize("looks", [3, None], ids=["leaves", "stays"])
def test_a_thread_that_is_leaving_is_looked_for_again_though_the_machine_stands_still(
    looks: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second goes by between two looks: that gives no thread time to leave."""
    there = [f"1 {threads._UNNAMED}"]
    found = (
        itertools.repeat(there) if looks is None else itertools.chain([there] * looks, itertools.repeat([]))
    )
    clock = itertools.count()
    monkeypatch.setattr(threads, "_found", lambda: next(found))
    monkeypatch.setattr(
        threads, "time", SimpleNamespace(sleep=lambda _: None, monotonic=lambda: float(next(clock)))
    )
    assert threads.unsafe() == (there if looks is None else [])

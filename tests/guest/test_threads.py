"""OpenMP runtimes are found where they are mapped; looked for again when modules have come, not before each copy.
Threads that are leaving are given time; monitors of tqdm's bars are told to."""

from __future__ import annotations

import itertools
import mmap
import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.guest import threads

if TYPE_CHECKING:
    from collections.abc import Iterator
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


def test_the_runtimes_of_gnu_llvm_and_intel_are_known_by_their_names() -> None:
    """A line of /proc/PID/maps for each; what only lies beside one, or is named after it, is none."""
    runtimes = ["/usr/lib/libgomp.so.1.0.0", "/venv/lib/torch/lib/libgomp-a34b3233.so.1", "/usr/lib/llvm/libomp.so.5", "/opt/intel libs/libiomp5.so"]  # fmt: skip
    others = ["/usr/lib/libcompact.so", "/opt/libgomp/plain.so", "/opt/libomp.d/of.so", "[heap]", ""]
    maps = [
        f"7f00-7f01 r-xp 00000000 08:01 42    {path}\n".encode() for path in (*others, *runtimes, *runtimes)
    ]
    assert threads._runtimes(maps) == sorted(runtimes)


class Monitor(threading.Thread):
    """Of the shape of ``tqdm.std.TMonitor``; it leaves when told to, or when the test is over."""

    def __init__(self, bars: type, *, heeds: bool = True) -> None:
        super().__init__(name="tqdm_monitor", daemon=True)
        self.was_killed, self.over = threading.Event(), threading.Event()
        self.tqdm_cls, self._heeds = bars, heeds
        self.start()

    def run(self) -> None:
        (self.was_killed if self._heeds else self.over).wait()


class Bars:
    monitor: Monitor | None = None


@pytest.fixture
def monitors() -> Iterator[list[Monitor]]:
    begun: list[Monitor] = []
    yield begun
    for one in begun:
        one.was_killed.set()
        one.over.set()
        one.join()


def stop_idle() -> None:
    threads.stop_idle(SimpleNamespace(_default_executor=None))  # type: ignore[arg-type]


@pytest.mark.parametrize("heeds", [True, False], ids=["leaves", "stays"])
def test_the_monitor_of_bars_is_ended_and_waited_for_no_longer_than_said(
    heeds: bool, monitors: list[Monitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.std", SimpleNamespace(TMonitor=Monitor))
    monkeypatch.setattr(threads, "_MONITOR_SECONDS", 60.0 if heeds else 0.01)
    Bars.monitor = Monitor(Bars, heeds=heeds)
    monitors.append(Bars.monitor)
    stop_idle()
    assert Bars.monitor is None, "the next bar begins one anew"
    assert monitors[0].is_alive() is not heeds


@pytest.mark.parametrize("module", [None, 3, SimpleNamespace(), SimpleNamespace(TMonitor="?"), SimpleNamespace(TMonitor=threading.Thread)])  # fmt: skip
def test_what_is_only_called_tqdm_stands_in_no_ones_way(
    module: object, monitors: list[Monitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.std", module)
    monitors.append(Monitor(Bars))
    stop_idle()
    assert monitors[0].is_alive()


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

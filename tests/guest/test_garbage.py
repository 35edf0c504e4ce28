"""When garbage is collected in what is branched: libraries are left alone, and no snapshot waits long for it."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.guest import garbage
from kernel_runtime.guest.garbage import Garbage

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBRARIES = 5_000


class Python:
    """Stands in for the interpreter: how many blocks it has given out, what its collector is told to do, the time."""

    def __init__(self) -> None:
        self.blocks, self.now, self.done, self.enabled = _LIBRARIES, 0.0, list[str](), True

    def collect(self, generation: int = 2) -> int:
        self.done.append(f"collect {generation}")
        return 0

    def take(self) -> list[str]:
        done, self.done = self.done, []
        return done


def begun(python: Python) -> Garbage:
    tended = Garbage()
    tended.begin()
    assert python.take() == ["freeze"], "what the guest has of its own"
    return tended


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> Iterator[Python]:
    python = Python()
    calls = {name: lambda name=name: python.done.append(name) for name in ("freeze", "unfreeze")}
    collector = SimpleNamespace(**calls, collect=python.collect, isenabled=lambda: python.enabled)
    monkeypatch.setattr(garbage, "gc", collector)
    monkeypatch.setattr(garbage, "sys", SimpleNamespace(getallocatedblocks=lambda: python.blocks))
    monkeypatch.setattr(garbage, "time", SimpleNamespace(monotonic=lambda: python.now))
    yield python


def test_of_a_notebook_with_little_nothing_is_frozen_nor_collected(python: Python) -> None:
    tended = begun(python)
    python.blocks, python.now = 2 * _LIBRARIES, 36_000.0
    tended.tend()
    garbage.gc.collect()
    assert python.take() == ["collect 2"], "the libraries stay frozen"


@pytest.mark.parametrize(
    ("blocks", "idle", "collected"),
    [(20_000, 60.0, True), (20_000, 0.1, False), (4_000_000, 60.0, False), (4_000_000, 3600.0, True)],
    ids=["small", "small, just collected", "large", "large, after an hour"],
)
def test_a_large_heap_is_frozen_and_collected_more_seldom(
    python: Python, blocks: int, idle: float, collected: bool
) -> None:
    """Also the first time, when nobody has measured yet how long it takes, nor frozen what is there."""
    tended = begun(python)
    python.blocks, python.now = blocks, idle
    tended.tend()
    assert python.take() == (["collect 2"] if collected else []) + ["freeze"]


def test_what_was_frozen_once_is_until_it_is_collected(python: Python) -> None:
    tended = begun(python)
    python.blocks = 20_000
    tended.tend()
    python.blocks = 6_000
    tended.tend()
    assert python.take() == ["freeze", "freeze"]
    python.now = 3600.0
    tended.tend()
    assert python.take() == ["unfreeze", "collect 2", "freeze"]
    garbage.gc.collect()
    garbage.gc.collect(1)
    assert python.take() == ["unfreeze", "collect 2", "collect 1"]


def test_who_has_switched_the_collector_off_is_spared_it(python: Python) -> None:
    tended = begun(python)
    python.blocks, python.now, python.enabled = 20_000, 3600.0, False
    tended.tend()
    assert python.take() == ["freeze"]


def test_the_notebooks_objects_are_found_frozen_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", gc.collect)
    kept, tended = [[object()]], Garbage()
    assert any(thing is kept for thing in tended.objects())
    monkeypatch.setattr(garbage, "_MUCH", 0)
    try:
        tended.tend()
        assert not any(thing is kept for thing in gc.get_objects())
        assert any(thing is kept for thing in tended.objects())
        assert not any(thing is kept for thing in gc.get_objects())
    finally:
        gc.unfreeze()

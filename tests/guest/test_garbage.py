"""When the objects that copies share are collected: seldom enough that no snapshot waits long for it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kernel_runtime.guest import branching


@pytest.mark.parametrize(
    ("objects", "idle", "collected"),
    [(10_000, 60.0, True), (10_000, 1.0, False), (4_000_000, 60.0, False), (4_000_000, 3600.0, True)],
    ids=["small", "small, just collected", "large", "large, after an hour"],
)
def test_a_large_heap_is_collected_more_seldom(
    monkeypatch: pytest.MonkeyPatch, objects: int, idle: float, collected: bool
) -> None:
    """Also the first time, when nobody has measured yet how long it takes, nor frozen what is there."""
    done: list[str] = []
    calls = {name: lambda name=name: done.append(name) for name in ("freeze", "unfreeze", "collect")}
    monkeypatch.setattr(branching, "gc", SimpleNamespace(**calls))
    monkeypatch.setattr(branching, "sys", SimpleNamespace(getallocatedblocks=lambda: objects))
    monkeypatch.setattr(branching, "time", SimpleNamespace(monotonic=lambda: idle))
    live = object.__new__(branching.Branching)
    live._collected, live._collecting = 0.0, 0.05
    live._tend_garbage()
    assert ("collect" in done) is collected
    assert done[-1] == "freeze"

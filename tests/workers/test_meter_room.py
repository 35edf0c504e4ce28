"""Whether a guest has room to spare: only then may what it has left take its time to go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kernel_runtime.domain.limits import Limits
from kernel_runtime.sandbox import hierarchy
from kernel_runtime.workers import meter


@pytest.mark.parametrize(
    ("memory", "pids", "copies", "plenty"),
    [(400, 40, 0, True), (600, 40, 0, False), (400, 60, 0, False), (400, 60, 20, True)],
    ids=["plenty", "memory", "processes", "copies that stand beside"],
)
def test_plenty_is_less_than_half_of_memory_and_processes(
    monkeypatch: pytest.MonkeyPatch, memory: int, pids: int, copies: int, plenty: bool
) -> None:
    counted: Any = SimpleNamespace(limits={"memory", "pids"})
    monkeypatch.setattr(meter, "world", lambda: counted)
    made = object.__new__(meter.Meter)
    group: Any = SimpleNamespace(usage=lambda: SimpleNamespace(memory=memory, pids=pids))
    made.limits, made._copies, made._group = Limits(memory=1000, pids=100), copies, group
    assert made.has_plenty() is plenty


def test_who_is_not_counted_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "world", lambda: hierarchy.World({}))
    made = object.__new__(meter.Meter)
    made.limits, made._copies, made._group = Limits(memory=None, pids=None), 0, None
    assert not made.has_plenty()

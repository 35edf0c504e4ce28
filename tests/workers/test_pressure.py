"""Whether snapshots go before a cell ends for the memory of its guest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from kernel_runtime.domain.limits import Limits
from kernel_runtime.workers.pressure import Pressure
from kernel_runtime.workers.processes import Process, Processes
from tests.workers.branches import inner_of

if TYPE_CHECKING:
    import pytest

    import kernel_runtime

MB = 1 << 20
LIVE, COPY = 2, 3


class Guest:
    """A session without walls: its processes in MB by pid (the host may not look into them), and its copies."""

    def __init__(self, sizes: dict[int, int], copies: set[int]) -> None:
        self.limits = Limits(memory=100 * MB)
        self.sizes, self.pids = sizes, copies
        self.processes = self
        self.told: list[str] = []

    def look(self) -> list[Process]:
        return [Process(pid, "S", 0.0, 1, size * MB) for pid, size in self.sizes.items()]

    def shared_out(self, processes: list[Process]) -> int:
        return Processes(1).shared_out(processes)

    def expendable(self) -> list[Any]:
        return [type("Known", (), {"automatic": True, "title": "a"}) for _ in self.pids]

    def give_up(self, _: list[Any]) -> None:
        self.pids = set()

    def tell_later(self, dropped: str) -> None:
        self.told.append(dropped)


def spared(guest: Guest, pressure: Pressure) -> bool:
    return pressure.spare_the_cell(sum(guest.sizes.values()) * MB)


def opened(monkeypatch: pytest.MonkeyPatch, guest: Guest) -> Pressure:
    def closed(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(Processes, "open", closed)
    return Pressure(cast("Any", guest), cast("Any", guest))


def test_copies_that_count_whole_end_no_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary front without control groups may not look into copies."""
    guest = Guest({1: 30, LIVE: 60, COPY: 90}, {COPY})
    pressure = opened(monkeypatch, guest)
    assert spared(guest, pressure)
    assert not guest.pids, "they go"
    assert guest.told == ["memory was short: dropped the snapshot a"]
    assert spared(guest, pressure), "what is on its way out is no longer the guest's"
    guest.sizes[LIVE] = 160
    assert not spared(guest, pressure)


def test_a_cell_that_uses_too_much_beside_them_is_not_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest({1: 30, LIVE: 130, COPY: 20}, {COPY})
    assert not spared(guest, opened(monkeypatch, guest))
    assert guest.pids == {COPY}


def test_without_copies_nothing_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest({1: 30, LIVE: 110}, set())
    assert not spared(guest, opened(monkeypatch, guest))


def test_what_went_for_memory_is_told_with_the_next_cell(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    session.snapshot("mine")
    inner = inner_of(session)

    async def spare() -> None:
        pressure = inner._first.pressure
        assert pressure is not None
        pressure.spare_the_cell(0.0)

    session._portal.call(spare())
    told = "kernel_runtime: memory was short: dropped the snapshot mine\n"
    assert session.run("x = 2").stderr == told
    assert session.run("x = 3").stderr == "", "once"

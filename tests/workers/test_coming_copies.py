"""A copy that is being made, where the host sums up the memory and may not look into it: not known as a copy yet,
it counts as a process of the guest's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.sandbox import hierarchy
from kernel_runtime.workers import meter
from kernel_runtime.workers.freezing import Order
from kernel_runtime.workers.processes import ROLLUP, Processes

if TYPE_CHECKING:
    from collections.abc import Callable

    import kernel_runtime
    from kernel_runtime import wire

_FULL = "x = bytearray(b'x') * (60 << 20)"


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Without control groups; copies become known so many seconds after they are made."""
    opened, made = Processes.open, Order.made

    def closed(processes: Processes, pid: int, name: str) -> int:
        if name == ROLLUP:
            raise PermissionError
        return opened(processes, pid, name)

    def known_after(seconds: float) -> None:
        async def later(order: Order) -> wire.Froze:
            said = await made(order)
            await asyncio.sleep(seconds)
            return said

        monkeypatch.setattr(Order, "made", later)

    monkeypatch.setattr(meter, "world", lambda: hierarchy.World({}))
    monkeypatch.setattr(Processes, "open", closed)
    return known_after


def test_it_ends_no_cell(
    late: Callable[[float], None], open_session: Callable[..., kernel_runtime.Session]
) -> None:
    late(0.25)
    session = open_session(memory="160M")
    session.run(_FULL)
    assert session.run("import time\ntime.sleep(1)\n6 * 7").result == "42"


def test_one_that_never_comes_does_not_lift_the_limit(
    late: Callable[[float], None], open_session: Callable[..., kernel_runtime.Session]
) -> None:
    late(600)
    session = open_session(memory="160M")
    session.run(_FULL)
    result = session.run("y = []\nwhile True: y.append(b'y' * (1 << 16))", check=False)
    assert result.verdict is not None
    assert result.verdict.reason == "memory"
    assert session.run("6 * 7").result == "42"

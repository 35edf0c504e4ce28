"""What is pressed and what is sent in the same turn of the loop: the order holds, and no cell is lost or killed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime import AsyncSession
from kernel_runtime.jupyter.panels.snapshots import open_panel
from tests.jupyter.panels.boards import stage

if TYPE_CHECKING:
    from pathlib import Path

TIMES = 5
CELL = "x += 10; print(x)"


async def _story(directory: Path, first: str, way: str) -> None:
    async with AsyncSession(workdir=directory, memory="512M") as session:
        place, _, _ = stage()
        await open_panel(place, session.watched.snapshots, b"{}", None)
        ((view, _),) = place._panels.values()
        for _ in range(TIMES):
            await session.run("x = 1")
            await session.run("x = 2")
            view._draw()
            view._choice.value = session.snapshots()[-1].number
            button: Any = {"undo": view._undo, "restore": view._restore, "branch": view._branch}[way]
            assert not button.disabled
            if first == "press":
                button.click()
                cell = asyncio.ensure_future(session.run(CELL))
            else:
                cell = asyncio.ensure_future(session.run(CELL))
                button.click()
            await asyncio.wait([cell, view._acting.task])
            result, said = cell.result(), view._acting.said.value
            assert result.ok, result
            if first == "press":
                assert (result.stdout, await session.value("x")) == ("11\n", 11), said
            else:
                assert result.stdout == "12\n"
                assert await session.value("x") == 12, said
                assert "cell is running" in said


@pytest.mark.parametrize("way", ["undo", "restore", "branch"])
@pytest.mark.parametrize("first", ["press", "cell"])
def test_the_order_holds(directory: Path, first: str, way: str) -> None:
    asyncio.run(_story(directory, first, way))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pressed")

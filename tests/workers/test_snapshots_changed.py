"""Who looks at the snapshots is told of every change, in the loop, until they look away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import kernel_runtime
from kernel_runtime.domain.snapshot import Budget
from kernel_runtime.workers import kept

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_listener_hears_of_each_kind_of_change(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "WEIGH_SECONDS", 1000.0)  # when it is told to

    async def story() -> None:
        budget = Budget(pause=3600)
        async with kernel_runtime.AsyncSession(
            workdir=directory, memory="512M", snapshots=budget, automatic=False
        ) as session:
            board = session._open.snapshots
            heard: list[tuple[object, ...]] = []

            def seen() -> tuple[object, ...]:
                marks = [(each.number, each.pinned, each.size is None) for each in board.listing()]
                return (marks, board.line, board.base, board.cell, board.undoable, board.redoable)

            end = board.on_changed(lambda: heard.append(seen()))

            async def told(deed: object) -> None:
                before = seen()
                heard.clear()
                if asyncio.iscoroutine(deed):
                    await deed
                await asyncio.sleep(0)  # the turn in which listeners are called
                assert seen() != before
                assert heard
                assert heard[-1] == seen()

            await told(session.run("x = 1"))
            await told(session.snapshot("first"))
            await told(session.pin("first"))
            await told(session.run("x = 2"))
            await told(session.restore("first"))
            await told(session.redo())
            await told(session.branch("other"))
            await told(board.weigh())
            await told(session.drop("first"))
            await told(session.restart())
            end()
            end()
            heard.clear()
            await session.snapshot("last")
            await asyncio.sleep(0)
            assert heard == []

    asyncio.run(story())


def test_what_can_be_undone_and_redone_is_counted(directory: Path) -> None:
    async def story() -> None:
        budget = Budget(pause=3600)
        async with kernel_runtime.AsyncSession(workdir=directory, memory="512M", snapshots=budget) as session:
            board = session._open.snapshots
            assert (board.undoable, board.redoable) == (0, 0)
            await session.run("x = 1")
            await session.run("x = 2")
            await board.settled()
            assert (board.undoable, board.redoable) == (2, 0)
            await session.undo()
            assert (board.undoable, board.redoable) == (1, 1)
            await session.redo()
            assert (board.undoable, board.redoable) == (2, 0)

    asyncio.run(story())

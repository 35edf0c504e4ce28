"""Sessions of loops that end: nothing of theirs outlives them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from kernel_runtime import AsyncSession

if TYPE_CHECKING:
    from pathlib import Path


def _below() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


async def _closed() -> None:
    async with AsyncSession() as session:
        assert (await session.run("6 * 7")).result == "42"


async def _left_open() -> None:
    session = AsyncSession()
    await session.open()
    assert (await session.run("6 * 7")).result == "42"


@pytest.mark.parametrize("story", [_closed, _left_open])
def test_a_loop_that_ends_leaves_no_zygote(story) -> None:
    before = _below()  # of other tests
    for _ in range(2):
        asyncio.run(story())
        assert _below() <= before


def test_a_program_ends_quietly_with_sessions_of_two_directories(tmp_path: Path) -> None:
    program = (
        "import sys; from kernel_runtime import Session\n"
        "with Session(workdir=sys.argv[1]) as one, Session(workdir=sys.argv[2]) as two:\n"
        "    print(one.run('6 * 7').result, two.run('6 * 7').result)\n"
    )
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        place.mkdir()
    command = [sys.executable, "-c", program, *map(str, places)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "42 42\n", "")

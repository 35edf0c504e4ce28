"""A kernel's guest of which nothing is asked for the time that was set is paused; its next cell goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.client.opened import execute_request
from kernel_runtime.jupyter.kernel import RuntimeHouse
from kernel_runtime.jupyter.settings import resolve
from kernel_runtime.runtime import Runtime
from kernel_runtime.runtime import Settings as Places

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 60


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))


def test_the_time_is_a_setting_in_every_place() -> None:
    assert resolve([], {}).idle is None
    assert resolve(["--idle", "30m"], {}).idle == 1800.0
    assert resolve(["--idle", "30m"], {"KERNEL_RUNTIME_IDLE": "1.5h"}).idle == 5400.0
    assert str(resolve([], {"KERNEL_RUNTIME_IDLE": "soon"}).error) == (
        "KERNEL_RUNTIME_IDLE: 'soon' is not a time; write a number with ms, s, m, h, d or w, like 30s"
    )


def test_it_is_the_guests() -> None:
    async def test() -> None:
        house = RuntimeHouse(Runtime(Places()))
        try:
            async with asyncio.timeout(SECONDS):
                session = house.open_session(resolve([], {"KERNEL_RUNTIME_IDLE": "50ms"}))
                for _ in range(2):
                    assert await session.submit(execute_request("1"), lambda _: None) is None
                    while not session.paused:
                        await asyncio.sleep(0.01)
        finally:
            await house.close()

    asyncio.run(test())

"""Attacks run as code in a real guest; each is run again with its wall taken away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.client import AsyncSession
from kernel_runtime.domain.limits import Limits
from kernel_runtime.runtime import Runtime, Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Attack = "Callable[..., str]"


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("walled")
    path.chmod(0o755)
    return path


@pytest.fixture
def attack(directory: Path) -> Callable[..., str]:
    """Runs code in a fresh guest (``without`` some walls); the last value's text, or the error's."""

    def run(code: str, *, without: tuple[str, ...] = ()) -> str:
        return asyncio.run(
            _attack(code, Settings(workdir=str(directory), warm=(), without=frozenset(without)))
        )

    return run


async def _attack(code: str, settings: Settings) -> str:
    runtime = Runtime(settings)
    session = AsyncSession(limits=Limits(memory=512 * 2**20))
    session._runtime, session._session = runtime, runtime.open_session(limits=session.limits)
    try:
        result = await session.run(code, check=False)
    finally:
        await session.close()
        await runtime.close()
    return str(result.error or result.verdict or result.result)

"""A debugger of a real kernel, for each module that asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.jupyter.debug_client import Client
from tests.jupyter.kernels import REAL, Kernel, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def debugged() -> Iterator[Kernel]:
    with running(REAL) as found:
        yield found


@pytest.fixture
def unstarted(debugged: Kernel) -> Iterator[Client]:
    """A debugger that nobody has started."""
    client = Client(debugged)
    yield client
    client.ask("disconnect", restart=False, terminateDebuggee=False)


@pytest.fixture
def debugger(unstarted: Client) -> Client:
    unstarted.start()
    return unstarted

"""nbval on our kernels: the notebooks are tutorials, tests and documentation at once."""

from __future__ import annotations

import contextlib
import re
import runpy
import tempfile
from pathlib import Path
from typing import Any

import nbval.kernel
import nbval.plugin
import pytest

#: The notebook that stands beside services; cells with this tag have a person in front of them.
WITH_SERVICES, ANSWERED = "03_permissions.ipynb", "answered"
#: Left to `make slow`.
SLOW = "02_time_travel.ipynb"


def _leave_the_kernel_alone(*_: Any) -> None:
    """Under pytest-cov nbval would inject coverage's own code into each kernel, the walled ones too."""


def _execute(self: Any, cell_input: str, allow_stdin: bool | None = None) -> str:
    """As front ends do: nbval's cells would have no numbers, and ours speak of them."""
    answered = bool(getattr(self, "answered", allow_stdin))
    sent: str = self.kc.execute(cell_input, allow_stdin=answered, stop_on_error=False)
    if answered:
        _allow_for_the_session(self.kc)
    return sent


def _allow_for_the_session(client: Any) -> None:
    """What the reader does with the card: the front's own question is answered, with the number it shows."""
    prompt = client.get_stdin_msg(timeout=60)["content"]["prompt"]
    (answer,) = re.findall(r"`(session \d\d)`", prompt)
    client.input(answer)


def _surround(variables: pytest.MonkeyPatch, name: str) -> contextlib.ExitStack:
    """What stands around the kernel that is started next: a place for what it keeps, and the services."""
    stack = contextlib.ExitStack()
    state = stack.enter_context(tempfile.TemporaryDirectory(prefix="kernel-runtime-state-"))
    variables.setenv("XDG_STATE_HOME", state)
    if name == WITH_SERVICES:
        services = runpy.run_path(str(Path(__file__).with_name("services.py")))["services"]
        for variable, value in stack.enter_context(services()).items():
            variables.setenv(variable, value)
        variables.delenv("JPY_SESSION_NAME", raising=False)
    return stack


_start, _stop = nbval.plugin.IPyNbFile.setup, nbval.plugin.IPyNbFile.teardown


def _setup(self: Any) -> None:
    with pytest.MonkeyPatch.context() as variables:
        self.surroundings = _surround(variables, self.path.name)
        _start(self)


def _teardown(self: Any) -> None:
    _stop(self)
    self.surroundings.close()


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.path.name == SLOW:
        item.add_marker("slow")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Whether somebody is there, cell by cell."""
    if isinstance(item, nbval.plugin.IPyNbCell):
        item.parent.kernel.answered = ANSWERED in item.cell.metadata.get("tags", [])


nbval.plugin.setup_coverage = _leave_the_kernel_alone
nbval.plugin.teardown_coverage = _leave_the_kernel_alone
nbval.plugin.IPyNbFile.setup, nbval.plugin.IPyNbFile.teardown = _setup, _teardown
nbval.kernel.RunningKernel.execute_cell_input = _execute

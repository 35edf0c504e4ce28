"""nbval on our kernels: the notebooks are tutorials, tests and documentation at once."""

from __future__ import annotations

import contextlib
import re
import runpy
from pathlib import Path
from typing import Any

import nbval.kernel
import nbval.plugin
import pytest

#: The notebook that stands beside services; cells with this tag have a person in front of them.
WITH_SERVICES, ANSWERED = "03_permissions.ipynb", "answered"


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


def _open_services(variables: pytest.MonkeyPatch) -> contextlib.ExitStack:
    """The services of the notebook, and the environment of the kernel that is started next."""
    services = runpy.run_path(str(Path(__file__).with_name("services.py")))["services"]
    stack = contextlib.ExitStack()
    for name, value in stack.enter_context(services()).items():
        variables.setenv(name, value)
    variables.delenv("JPY_SESSION_NAME", raising=False)
    return stack


_start, _stop = nbval.plugin.IPyNbFile.setup, nbval.plugin.IPyNbFile.teardown


def _setup(self: Any) -> None:
    with pytest.MonkeyPatch.context() as variables:
        self.services = _open_services(variables) if self.path.name == WITH_SERVICES else None
        _start(self)


def _teardown(self: Any) -> None:
    _stop(self)
    if self.services is not None:
        self.services.close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Whether somebody is there, cell by cell."""
    if isinstance(item, nbval.plugin.IPyNbCell):
        item.parent.kernel.answered = ANSWERED in item.cell.metadata.get("tags", [])


nbval.plugin.setup_coverage = _leave_the_kernel_alone
nbval.plugin.teardown_coverage = _leave_the_kernel_alone
nbval.plugin.IPyNbFile.setup, nbval.plugin.IPyNbFile.teardown = _setup, _teardown
nbval.kernel.RunningKernel.execute_cell_input = _execute

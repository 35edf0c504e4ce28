"""nbval on our kernels: the notebooks are tutorials, tests and documentation at once."""

from __future__ import annotations

from typing import Any

import nbval.plugin


def _leave_the_kernel_alone(*_: Any) -> None:
    """Under pytest-cov nbval would inject coverage's own code into each kernel, the walled ones too."""


nbval.plugin.setup_coverage = _leave_the_kernel_alone
nbval.plugin.teardown_coverage = _leave_the_kernel_alone

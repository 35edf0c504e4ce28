"""A papermill engine whose cells run in kernel_runtime's sandbox: ``--engine kernel_runtime``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernel_runtime_papermill.engine import SandboxEngine

__all__ = ["SandboxEngine"]


def __getattr__(name: str) -> Any:
    if name != "SandboxEngine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # While papermill is imported it loads its engines, us among them: whoever comes first, papermill must.
    importlib.import_module("papermill.engines")
    return importlib.import_module("kernel_runtime_papermill.engine").SandboxEngine

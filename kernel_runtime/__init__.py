"""Run notebook code that you need not trust: sandboxed guests, branched in milliseconds.

Public names are loaded when first used, so that importing the package (which every guest
does) costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernel_runtime.client import AsyncSession, Session
    from kernel_runtime.domain.checkpoint import Checkpoint, Retention
    from kernel_runtime.domain.difference import Difference
    from kernel_runtime.domain.errors import (
        CapabilityDenied,
        Conflict,
        ExternalStateError,
        GuestCodeError,
        GuestLost,
        Invalid,
        KernelRuntimeError,
        LimitExceeded,
        NotFound,
        ProtocolViolation,
        StorageFailed,
        UnsafeThreads,
        WallUnavailable,
        ZygoteLost,
    )
    from kernel_runtime.domain.level import Level
    from kernel_runtime.domain.limits import Limits
    from kernel_runtime.domain.question import Question
    from kernel_runtime.domain.rules import Span
    from kernel_runtime.domain.snapshot import Budget, Saving, Snapshot
    from kernel_runtime.domain.usage import Amount, Nearly, Usage
    from kernel_runtime.domain.verdict import Reason, Verdict
    from kernel_runtime.jupyter.magics import load_ipython_extension, unload_ipython_extension
    from kernel_runtime.result import Result
    from kernel_runtime.workers.checkpoints import Restored
    from kernel_runtime.workers.replay import Replay
    from kernel_runtime.workers.restoration import Restoration

__version__ = "0.1.0"

_ERRORS = "kernel_runtime.domain.errors"
_HOMES = {
    "Amount": "kernel_runtime.domain.usage",
    "AsyncSession": "kernel_runtime.client",
    "Result": "kernel_runtime.result",
    "Session": "kernel_runtime.client",
    "CapabilityDenied": _ERRORS,
    "Checkpoint": "kernel_runtime.domain.checkpoint",
    "Conflict": _ERRORS,
    "Difference": "kernel_runtime.domain.difference",
    "ExternalStateError": _ERRORS,
    "GuestCodeError": _ERRORS,
    "GuestLost": _ERRORS,
    "Invalid": _ERRORS,
    "KernelRuntimeError": _ERRORS,
    "LimitExceeded": _ERRORS,
    "NotFound": _ERRORS,
    "ProtocolViolation": _ERRORS,
    "UnsafeThreads": _ERRORS,
    "StorageFailed": _ERRORS,
    "WallUnavailable": _ERRORS,
    "ZygoteLost": _ERRORS,
    "Level": "kernel_runtime.domain.level",
    "Limits": "kernel_runtime.domain.limits",
    "Nearly": "kernel_runtime.domain.usage",
    "Budget": "kernel_runtime.domain.snapshot",
    "Question": "kernel_runtime.domain.question",
    "Reason": "kernel_runtime.domain.verdict",
    "Replay": "kernel_runtime.workers.replay",
    "Restoration": "kernel_runtime.workers.restoration",
    "Retention": "kernel_runtime.domain.checkpoint",
    "Restored": "kernel_runtime.workers.checkpoints",
    "Saving": "kernel_runtime.domain.snapshot",
    "Snapshot": "kernel_runtime.domain.snapshot",
    "Span": "kernel_runtime.domain.rules",
    "Usage": "kernel_runtime.domain.usage",
    "Verdict": "kernel_runtime.domain.verdict",
    "load_ipython_extension": "kernel_runtime.jupyter.magics",
    "unload_ipython_extension": "kernel_runtime.jupyter.magics",
}

__all__ = [
    "Amount",
    "AsyncSession",
    "Budget",
    "CapabilityDenied",
    "Checkpoint",
    "Conflict",
    "Difference",
    "ExternalStateError",
    "GuestCodeError",
    "GuestLost",
    "Invalid",
    "KernelRuntimeError",
    "Level",
    "LimitExceeded",
    "Limits",
    "Nearly",
    "NotFound",
    "ProtocolViolation",
    "Question",
    "Reason",
    "Replay",
    "Restoration",
    "Restored",
    "Result",
    "Retention",
    "Saving",
    "Session",
    "Snapshot",
    "Span",
    "StorageFailed",
    "UnsafeThreads",
    "Usage",
    "Verdict",
    "WallUnavailable",
    "ZygoteLost",
    "load_ipython_extension",
    "unload_ipython_extension",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

"""What code inside a guest may import: the house as seen from within.

    from kernel_runtime.sdk import http, files, secrets, db, cache, storage, log, events, clock, env

Each module asks the host for one capability. Its functions wait for the answer; each has a twin whose name begins with
``a``, to be awaited. What is not granted raises ``CapabilityDenied``, which says what to ask for.
"""

from kernel_runtime.domain.errors import (
    CapabilityDenied,
    Conflict,
    Invalid,
    KernelRuntimeError,
    NotFound,
    OutsideFailed,
    StorageFailed,
)

__all__ = [
    "CapabilityDenied",
    "Conflict",
    "Invalid",
    "KernelRuntimeError",
    "NotFound",
    "OutsideFailed",
    "StorageFailed",
]

"""What code inside a guest may import: the house as seen from within.

    from kernel_runtime.sdk import http, files, secrets, db, cache, storage, log, call, events, clock, env

Each module asks the host for one capability. Its functions wait for the answer; each has a twin whose name begins with
``a``, to be awaited. ``call`` is a function itself, with ``acall`` as its twin. What is not granted raises ``CapabilityDenied``, which says what to ask for.
"""

from kernel_runtime.domain.errors import (
    CallFailed,
    CapabilityDenied,
    Conflict,
    Invalid,
    KernelRuntimeError,
    NotFound,
    OutsideFailed,
    StorageFailed,
)
from kernel_runtime.sdk.call import acall, call

__all__ = [
    "CallFailed",
    "CapabilityDenied",
    "Conflict",
    "Invalid",
    "KernelRuntimeError",
    "NotFound",
    "OutsideFailed",
    "StorageFailed",
    "acall",
    "call",
]

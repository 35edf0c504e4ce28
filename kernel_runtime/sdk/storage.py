"""What this app keeps for itself between sessions: plain values and bytes, by key.

    from kernel_runtime.sdk import storage

    storage.set("runs", 3)
    storage.get("runs", default=0)
    await storage.aget("model")     # every function has a twin to be awaited

No grant is needed. What an app may keep is bounded (``limits.storage`` of its manifest); beyond it ``Conflict``.
"""

from __future__ import annotations

from typing import Any

from kernel_runtime.sdk.door import Ask, both, nothing, same

__all__ = ["adelete", "aget", "akeys", "aset", "aused", "delete", "get", "keys", "set", "used"]


def __dir__() -> list[str]:
    return __all__


def _get(key: str, default: Any = None) -> Ask[Any]:
    """The value kept under ``key``, or ``default``."""
    return Ask("storage", "get", {"key": key}, lambda found: found["value"] if found["found"] else default)


def _set(key: str, value: Any) -> Ask[None]:
    """Keep a plain value (numbers, text, bytes, lists, dicts) under ``key``."""
    return Ask("storage", "set", {"key": key, "value": value}, nothing)


def _delete(key: str) -> Ask[bool]:
    """Forget ``key``; whether it was there."""
    return Ask("storage", "delete", {"key": key}, same)


def _keys(prefix: str = "", after: str = "") -> Ask[list[str]]:
    """The keys that begin with ``prefix``, in order: at most 1000 after ``after``."""
    return Ask("storage", "keys", {"prefix": prefix, "after": after}, same)


def _used() -> Ask[dict[str, int]]:
    """Bytes that are ``used``, and the ``quota``."""
    return Ask("storage", "used", {}, same)


get, aget = both(_get)
set, aset = both(_set)  # noqa: A001 - storage.set
delete, adelete = both(_delete)
keys, akeys = both(_keys)
used, aused = both(_used)

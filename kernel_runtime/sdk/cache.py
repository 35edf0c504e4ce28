"""Values for a while, by key, shared by the sessions of this app in one runtime. Asks for ``cache``.

from kernel_runtime.sdk import cache

cache.set("rates", rates, ttl=600)
cache.get("rates")
"""

from __future__ import annotations

from typing import Any

from kernel_runtime.sdk.door import Ask, both, nothing, same

__all__ = ["adelete", "aget", "aset", "delete", "get", "set"]


def __dir__() -> list[str]:
    return __all__


def _get(key: str, default: Any = None) -> Ask[Any]:
    """The value of ``key``, or ``default`` when there is none (any more)."""
    return Ask("cache", "get", {"key": key}, lambda found: found["value"] if found["found"] else default)


def _set(key: str, value: Any, ttl: float | None = None) -> Ask[None]:
    """Keep a plain value for ``ttl`` seconds (a day unless you say); it may go earlier."""
    given = None if ttl is None else float(ttl)
    return Ask("cache", "set", {"key": key, "value": value, "ttl": given}, nothing)


def _delete(key: str) -> Ask[bool]:
    """Forget ``key``; whether it was there."""
    return Ask("cache", "delete", {"key": key}, same)


get, aget = both(_get)
set, aset = both(_set)  # noqa: A001 - cache.set
delete, adelete = both(_delete)

"""Secrets that the owner has set (``kernel-runtime secrets set NAME``) and granted to this app (``secret:<name>``).

    from kernel_runtime.sdk import secrets

    token = secrets.get("api-token")

A value that was given is taken out of all that this session shows, logs and keeps. For requests over HTTP a
credential is better: ``http.get(url, credential="api-token")`` adds it outside, and it is never seen in here.
"""

from __future__ import annotations

from kernel_runtime.sdk.door import Ask, both, same

__all__ = ["aget", "get"]


def __dir__() -> list[str]:
    return __all__


def _get(name: str) -> Ask[str | bytes]:
    """The value of a secret; ``CapabilityDenied`` where it is not granted, ``NotFound`` where there is none."""
    return Ask("secrets", "get", {"name": name}, same)


get, aget = both(_get)

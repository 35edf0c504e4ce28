"""Variables of the host's environment, one by one. Asks for ``env:<name>``.

from kernel_runtime.sdk import env

env.get("REGION")
"""

from __future__ import annotations

from kernel_runtime.sdk.door import Ask, both, same

__all__ = ["aget", "get"]


def __dir__() -> list[str]:
    return __all__


def _get(name: str) -> Ask[str]:
    """The value of a variable; ``NotFound`` where it is granted and not set."""
    return Ask("env", "get", {"name": name}, same)


get, aget = both(_get)

"""A handler of another app, run in a guest of that app's own. Asks for ``call:<app>.<handler>``.

    from kernel_runtime.sdk import acall, call

    call("prices.latest", {"metal": "copper"}, timeout=5)
    await acall("prices.latest", {"metal": "tin"})

The other app has what was granted to it, not what was granted here. Arguments and answer are plain data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.sdk.door import Ask, both, same

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["acall", "call"]


def __dir__() -> list[str]:
    return __all__


def _call(
    handler: str, arguments: Mapping[str, Any] | None = None, *, timeout: float | None = None
) -> Ask[Any]:
    """What the handler (``"app.handler"``) answers to ``arguments``, by name, within ``timeout`` seconds (30 unless
    you say). ``Invalid``: they do not fit; ``CallFailed``: the app failed; ``OutsideFailed``: it took too long."""
    app, dot, name = handler.rpartition(".")
    if not dot:
        raise Invalid(f"{handler!r} names no handler; write it like 'app.handler'")
    given = {
        "app": app,
        "handler": name,
        "arguments": dict(arguments or {}),
        "timeout": None if timeout is None else float(timeout),
    }
    return Ask("call", "run", given, same)


call, acall = both(_call)

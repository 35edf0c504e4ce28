"""What the sessions of one runtime share: topics, values for a while, the apps that they call and what these say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from kernel_runtime.broker.cache import MemoryCache
from kernel_runtime.broker.events import Bus
from kernel_runtime.broker.log import Logs

if TYPE_CHECKING:
    from kernel_runtime.broker.call import Answered, Called


class Callees(Protocol):
    """Runs handlers of other apps; made when the first is called."""

    async def run(self, called: Called, terms: Any) -> Answered: ...
    async def close(self) -> None: ...


class Commons:
    """Made when the first session of a runtime asks for something. ``said``: what called apps have logged and printed."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.cache = MemoryCache()
        self.said = Logs()
        self.callees: Callees | None = None

    async def close(self) -> None:
        """With the runtime, when its sessions are closed; idempotent."""
        callees, self.callees = self.callees, None
        if callees is not None:
            await callees.close()

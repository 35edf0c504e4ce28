"""What the sessions of one runtime share: topics, and values for a while."""

from __future__ import annotations

from kernel_runtime.broker.cache import MemoryCache
from kernel_runtime.broker.events import Bus


class Commons:
    """Made when the first session of a runtime asks for something."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.cache = MemoryCache()

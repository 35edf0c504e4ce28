"""What the sessions of one runtime share: topics, and values for a while."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from kernel_runtime.broker.cache import MemoryCache
from kernel_runtime.broker.events import Bus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernel_runtime.broker.cache import Cache

#: The server of the owner's choice, like ``redis://localhost:6379/0``; without it values are kept in memory.
CACHE_URL = "KERNEL_RUNTIME_CACHE_URL"


class Commons:
    """Made when the first session of a runtime asks for something."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.bus = Bus()
        self._url = environment.get(CACHE_URL, "")

    def cache(self) -> Cache:
        """The one in memory, the same for all; or a connection of one's own to the owner's server."""
        if not self._url:
            return self._in_memory
        from kernel_runtime.broker.redis import RedisCache

        return RedisCache(self._url)

    @functools.cached_property
    def _in_memory(self) -> MemoryCache:
        return MemoryCache()

"""Capability ``cache``: values for a while, by key and app. In the memory of this process, or on a server."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec

from kernel_runtime.broker.arguments import Arguments, beside, packed_up, read
from kernel_runtime.broker.handler import Performed
from kernel_runtime.domain import packed
from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import Damaged, ProtocolViolation
from kernel_runtime.domain.scopes import Kind, make_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.broker.handler import Call, Demand

#: Bytes of one app in memory; of more those go that were not used for longest.
MEMORY = 64 * MIB
_OVERHEAD = 100
DAY = 86400.0

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Ttl = Annotated[float, msgspec.Meta(gt=0, le=30 * DAY)]


class Get(Arguments, frozen=True, kw_only=True):
    key: Key


class Set(Arguments, frozen=True, kw_only=True):
    key: Key
    value: Any = None
    ttl: Ttl = DAY


class Delete(Arguments, frozen=True, kw_only=True):
    key: Key


_ACTIONS = {"get": Get, "set": Set, "delete": Delete}


class Cache(Protocol):
    """Where values are kept for a while; ``KernelRuntimeError`` when it cannot be reached."""

    async def get(self, app: str, key: str) -> bytes | None: ...
    async def set(self, app: str, key: str, value: bytes, ttl: float) -> None: ...
    async def delete(self, app: str, key: str) -> bool: ...
    async def close(self) -> None: ...


class MemoryCache:
    """In this process, for all guests of a runtime; ends with it."""

    def __init__(self, most: int = MEMORY, ticks: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._ticks = ticks
        self._apps: dict[str, OrderedDict[str, tuple[float, bytes]]] = {}
        self._bytes: dict[str, int] = {}

    async def get(self, app: str, key: str) -> bytes | None:
        kept = self._apps.get(app)
        if kept is None or key not in kept:
            return None
        ends, value = kept[key]
        if ends <= self._ticks():
            self._drop(app, key)
            return None
        self._apps[app].move_to_end(key)
        return value

    async def set(self, app: str, key: str, value: bytes, ttl: float) -> None:
        self._drop(app, key)
        kept = self._apps.setdefault(app, OrderedDict())
        kept[key] = (self._ticks() + ttl, value)
        self._bytes[app] = self._bytes.get(app, 0) + taken(key, value)
        while self._bytes[app] > self._most and kept:
            self._drop(app, next(iter(kept)))

    async def delete(self, app: str, key: str) -> bool:
        return self._drop(app, key)

    async def close(self) -> None:
        """It is the runtime's, and ends with it."""

    def _drop(self, app: str, key: str) -> bool:
        kept = self._apps.get(app)
        if kept is None or key not in kept:
            return False
        self._bytes[app] -= taken(key, kept.pop(key)[1])
        return True


def taken(key: str, value: bytes) -> int:
    """Bytes that count."""
    return len(key) + len(value) + _OVERHEAD


class CacheHandler:
    """Asks for ``cache`` before each thing it does. ``make``: what to keep values in, when it is first needed."""

    name = "cache"

    def __init__(self, make: Callable[[], Cache], space: str) -> None:
        self._make = make
        self._space = space
        self._cache: Cache | None = None
        self._opening = asyncio.Lock()

    async def perform(self, call: Call, demand: Demand) -> Performed:
        """``get``, ``set`` (for ``ttl`` seconds), ``delete``."""
        asked = read(call, _ACTIONS)
        data = await packed_up(asked.value) if isinstance(asked, Set) else b""
        request = Request(scope=make_scope(Kind.CACHE, ""), arguments={"key": asked.key}, size=len(data))
        await demand(request)
        cache = await self._opened()
        if isinstance(asked, Set):
            await cache.set(self._space, asked.key, data, asked.ttl)
            return Performed(size=len(data))
        if isinstance(asked, Delete):
            return Performed(value=await cache.delete(self._space, asked.key))
        found = await cache.get(self._space, asked.key)
        if found is None:
            return Performed(value={"found": False, "value": None})
        return await beside(found, _got)

    async def close(self) -> None:
        if self._cache is not None:
            await self._cache.close()

    async def _opened(self) -> Cache:
        """Made in a thread: it may read secrets."""
        async with self._opening:
            if self._cache is None:
                self._cache = await asyncio.to_thread(self._make)
            return self._cache


def _got(found: bytes) -> Performed:
    try:
        value = packed.unpack(found)
    except ProtocolViolation:
        raise Damaged("cache: what is there under this key is not what was written") from None
    return Performed(value={"found": True, "value": value}, size=len(found))

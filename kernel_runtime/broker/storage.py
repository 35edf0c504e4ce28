"""Capability ``storage``: what an app keeps for itself, by key. Needs no grant; its quota holds."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from kernel_runtime.broker.arguments import Arguments, read
from kernel_runtime.broker.handler import Performed
from kernel_runtime.broker.sealed import MARK
from kernel_runtime.domain import packed
from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.broker.handler import Call, Demand
    from kernel_runtime.ports import Storage

#: Bytes of an app whose manifest does not say (``limits.storage``).
QUOTA = 64 * MIB
MAX_KEYS = 1000

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Get(Arguments, frozen=True, kw_only=True):
    key: Key


class Set(Arguments, frozen=True, kw_only=True):
    key: Key
    value: Any = None


class Delete(Arguments, frozen=True, kw_only=True):
    key: Key


class Keys(Arguments, frozen=True, kw_only=True):
    prefix: Annotated[str, msgspec.Meta(max_length=512)] = ""
    after: Annotated[str, msgspec.Meta(max_length=512)] = ""


class Used(Arguments, frozen=True, kw_only=True):
    pass


_ACTIONS = {"get": Get, "set": Set, "delete": Delete, "keys": Keys, "used": Used}


class StorageHandler:
    """The drawer ``space`` of all that there are. ``store`` is opened when it is first needed."""

    name = "storage"

    def __init__(self, store: Callable[[], Storage], space: str, quota: int | None = None) -> None:
        self._make = store
        self._space = space
        self._store: Storage | None = None
        self._quota = QUOTA if quota is None else quota
        self._opening = threading.Lock()

    async def perform(self, call: Call, demand: Demand) -> Performed:
        """``get``, ``set``, ``delete``, ``keys``, ``used``."""
        del demand
        asked = read(call, _ACTIONS)
        return await asyncio.to_thread(self._done, asked)

    async def close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await asyncio.to_thread(store.close)

    def _done(self, asked: Arguments) -> Performed:
        with self._opening:
            store = self._store = self._store or self._make()
        app = self._space
        if isinstance(asked, Get):
            return _got(store.get(app, asked.key))
        if isinstance(asked, Set):
            data = packed.pack(asked.value)
            store.set(app, asked.key, data, self._quota)
            return Performed(size=len(data))
        if isinstance(asked, Delete):
            return Performed(value=store.delete(app, asked.key))
        if isinstance(asked, Keys):
            return Performed(value=store.keys(app, asked.prefix, asked.after, MAX_KEYS))
        return Performed(value={"used": store.used(app), "quota": self._quota})


def _got(found: bytes | None) -> Performed:
    if found is None:
        return Performed(value={"found": False, "value": None})
    if found.startswith(MARK):
        raise Conflict("storage: another session of this app has sealed it meanwhile; start this one anew")
    return Performed(value={"found": True, "value": packed.unpack_answer(found)}, size=len(found))

"""What an app keeps, sealed under its own key: values of its storage and of a cache outside of this process, and what its log
records say.

A value is bound to the app's space and the name of its key: a row in another's place is noticed. Names of keys
and sizes stay readable, and who can write the file can put an older value of the same key back.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.broker.sealing import about, seal, unseal
from kernel_runtime.domain.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kernel_runtime.broker.cache import Cache
    from kernel_runtime.domain.log import LogRecord
    from kernel_runtime.ports import LogStore, Storage

#: Begins what is sealed. It is the one byte that begins no value of MessagePack, as those in the open are.
MARK = b"\xc1"
#: The one field of a sealed record; no app can name one so, being longer than names may be.
_SEALED = "sealed" + " " * 100


class SealedStorage:
    """``ports.Storage`` over another, for one app."""

    def __init__(self, store: Storage, key: bytes) -> None:
        self._store = store
        self._key = key

    def get(self, app: str, key: str) -> bytes | None:
        """What lies in the open was not written by an app that asks for encryption: ``Damaged``."""
        found = self._store.get(app, key)
        return None if found is None else _opened(self._key, found, "storage", app, key)

    def set(self, app: str, key: str, value: bytes, quota: int) -> None:
        self._store.set(app, key, _sealed(self._key, value, "storage", app, key), quota)

    def rewrite(self, app: str, change: Callable[[str, bytes], bytes]) -> None:
        def changed(key: str, value: bytes) -> bytes:
            new = change(key, _opened(self._key, value, "storage", app, key))
            return _sealed(self._key, new, "storage", app, key)

        self._store.rewrite(app, changed)

    def delete(self, app: str, key: str) -> bool:
        return self._store.delete(app, key)

    def keys(self, app: str, prefix: str, after: str, most: int) -> list[str]:
        return self._store.keys(app, prefix, after, most)

    def used(self, app: str) -> int:
        return self._store.used(app)

    def close(self) -> None:
        self._store.close()


class SealedCache:
    """``Cache`` over another, for one app."""

    def __init__(self, cache: Cache, key: bytes) -> None:
        self._cache = cache
        self._key = key

    async def get(self, app: str, key: str) -> bytes | None:
        found = await self._cache.get(app, key)
        return None if found is None else _opened(self._key, found, "cache", app, key)

    async def set(self, app: str, key: str, value: bytes, ttl: float) -> None:
        await self._cache.set(app, key, _sealed(self._key, value, "cache", app, key), ttl)

    async def delete(self, app: str, key: str) -> bool:
        return await self._cache.delete(app, key)

    async def close(self) -> None:
        await self._cache.close()


class SealedLogs:
    """``ports.LogStore`` over another, for one app: what its records say is sealed; when, whose and how much it matters
    stays readable, and so do records from before it asked for encryption."""

    def __init__(self, store: LogStore, key: bytes) -> None:
        self._store = store
        self._key = key

    def add(self, records: Sequence[LogRecord]) -> None:
        self._store.add([self._sealed(record) for record in records])

    def records(self, app: str, *, session: str = "", newest: int = 1000) -> list[LogRecord]:
        return [self._opened(record) for record in self._store.records(app, session=session, newest=newest)]

    def _sealed(self, record: LogRecord) -> LogRecord:
        said = msgspec.msgpack.encode((record.message, record.fields))
        text = base64.b64encode(_sealed(self._key, said, "log", record.app, record.session))
        return msgspec.structs.replace(record, message=text.decode(), fields={_SEALED: ""})

    def _opened(self, record: LogRecord) -> LogRecord:
        if _SEALED not in record.fields:
            return record
        try:
            found = base64.b64decode(record.message, validate=True)
        except ValueError:
            raise Damaged("log: a record is not what this app wrote there") from None
        said = _opened(self._key, found, "log", record.app, record.session)
        message, fields = msgspec.msgpack.decode(said, type=tuple[str, dict[str, str]])
        return msgspec.structs.replace(record, message=message, fields=fields)


def seal_rest(store: Storage, space: str, key: bytes) -> None:
    """Seal what an app wrote in the open, before it asked for encryption."""

    def sealed(name: str, value: bytes) -> bytes:
        return value if value.startswith(MARK) else _sealed(key, value, "storage", space, name)

    store.rewrite(space, sealed)


def _sealed(key: bytes, value: bytes, what: str, app: str, name: str) -> bytes:
    return MARK + seal(key, value, about(what, app, name))


def _opened(key: bytes, found: bytes, what: str, app: str, name: str) -> bytes:
    value = unseal(key, found[len(MARK) :], about(what, app, name)) if found.startswith(MARK) else None
    if value is None:
        raise Damaged(f"{what}: the value of {name!r} is not what this app wrote there")
    return value

"""Values for a while in Redis or Valkey (the extra ``redis``): for many runtimes, on one host or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Conflict, KernelRuntimeError

if TYPE_CHECKING:
    from collections.abc import Awaitable

_PREFIX = "kernel-runtime:cache:"
_SECONDS = 5.0


class RedisCache:
    """See ``cache.Cache``. Apps have no colon in their ids: none reads another's keys."""

    def __init__(self, url: str) -> None:
        try:
            from redis.asyncio import Redis
        except ModuleNotFoundError:
            raise Conflict(
                "cache: a server is named, but its library is not here: pip install 'kernel-runtime[redis]'"
            ) from None
        self._redis: Any = Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)

    async def get(self, app: str, key: str) -> bytes | None:
        found = await _reached(self._redis.get(_name(app, key)))
        return None if found is None else bytes(found)

    async def set(self, app: str, key: str, value: bytes, ttl: float) -> None:
        await _reached(self._redis.set(_name(app, key), value, px=max(1, int(1000 * ttl))))

    async def delete(self, app: str, key: str) -> bool:
        return bool(await _reached(self._redis.delete(_name(app, key))))

    async def close(self) -> None:
        await self._redis.aclose()


def _name(app: str, key: str) -> str:
    return f"{_PREFIX}{app}:{key}"


async def _reached(asked: Awaitable[Any]) -> Any:
    """What the server answers; where it is and how it is entered is not for guests to know."""
    from redis.exceptions import RedisError

    try:
        return await asked
    except (RedisError, OSError) as error:
        raise KernelRuntimeError(f"cache: the server does not answer ({type(error).__name__})") from None

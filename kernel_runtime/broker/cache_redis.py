"""Values for a while on a server of Redis or Valkey: apart for each app, bounded as the embedded cache is.

Of each app there are its values (which end by themselves) and, beside them, when each was last used and what it
takes. One script changes them together, whoever else does.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from typing import TYPE_CHECKING, Any

from kernel_runtime.broker.cache import MEMORY, taken
from kernel_runtime.domain.errors import Invalid, OutsideFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.broker.caches import Server

SECONDS = 5.0
MOST_CONNECTIONS = 8
#: What is counted is forgotten after the longest time that a value may have.
_COUNTED_SECONDS = 31 * 86400

_COMMON = """
local values, used, sizes = KEYS[1], KEYS[2], KEYS[3]
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local function drop(key)
  local there = redis.call('DEL', values .. key)
  redis.call('ZREM', used, key)
  local size = redis.call('HGET', sizes, key)
  if size then
    redis.call('HDEL', sizes, key)
    redis.call('HINCRBY', sizes, '', -size)
  end
  return there
end
"""
_GET = """
local value = redis.call('GET', values .. ARGV[1])
if value then redis.call('ZADD', used, 'XX', now, ARGV[1]) else drop(ARGV[1]) end
return value
"""
#: The sum of sizes stands under the one name that no key has.
_SET = """
local key, value, ttl, size, most, counted = unpack(ARGV)
drop(key)
redis.call('SET', values .. key, value, 'PX', ttl)
redis.call('ZADD', used, now, key)
redis.call('HSET', sizes, key, size)
local sum = redis.call('HINCRBY', sizes, '', size)
while sum > tonumber(most) do
  local oldest = redis.call('ZRANGE', used, 0, 0)[1]
  if not oldest then break end
  drop(oldest)
  sum = tonumber(redis.call('HGET', sizes, ''))
end
redis.call('EXPIRE', used, counted)
redis.call('EXPIRE', sizes, counted)
"""
_DELETE = "return drop(ARGV[1])"


class RedisCache:
    """``Cache`` for one session; connects when it is first asked. ``most``: bytes of one app."""

    def __init__(self, server: Server, password: str = "", most: int = MEMORY) -> None:
        self._library = _library()
        self._most = most
        self._client = self._connected(server.url, password)
        self._get, self._set, self._delete = (
            self._client.register_script(_COMMON + text) for text in (_GET, _SET, _DELETE)
        )

    async def get(self, app: str, key: str) -> bytes | None:
        with self._told():
            found: bytes | None = await self._get(keys=_places(app), args=[key])
        return found

    async def set(self, app: str, key: str, value: bytes, ttl: float) -> None:
        milliseconds = max(1, math.ceil(ttl * 1000))
        arguments = [key, value, milliseconds, taken(key, value), self._most, _COUNTED_SECONDS]
        with self._told():
            await self._set(keys=_places(app), args=arguments)

    async def delete(self, app: str, key: str) -> bool:
        with self._told():
            return bool(await self._delete(keys=_places(app), args=[key]))

    async def close(self) -> None:
        with contextlib.suppress(self._library.RedisError, OSError):
            await self._client.aclose()

    def _connected(self, url: str, password: str) -> Any:
        """One try anew: a server that was started again has forgotten its connections, not the caller."""
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        named = {"password": password} if password else {}
        try:
            pool = BlockingConnectionPool.from_url(
                re.sub("^valkey", "redis", url),
                max_connections=MOST_CONNECTIONS,
                timeout=SECONDS,
                socket_timeout=SECONDS,
                socket_connect_timeout=SECONDS,
                retry=Retry(NoBackoff(), 1),
                **named,
            )
        except (ValueError, TypeError):
            raise Invalid("the cache's url cannot be read; see cache.toml") from None
        return Redis.from_pool(pool)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Trouble tells the guest neither where the server is nor who it is asked as."""
        try:
            yield
        except (self._library.RedisError, OSError) as error:
            raise OutsideFailed(f"the cache cannot be used ({type(error).__name__})") from None


def _places(app: str) -> list[str]:
    """Of one app all in one slot of a cluster. What an app is called cannot reach into another's."""
    name = hashlib.sha256(app.encode(errors="surrogateescape")).hexdigest()[:32]
    return [f"kernel-runtime:cache:{{{name}}}:{part}" for part in ("value:", "used", "sizes")]


def _library() -> Any:
    try:
        import redis
    except ImportError:
        raise Invalid("a cache on a server needs: pip install 'kernel-runtime[redis]'") from None
    return redis

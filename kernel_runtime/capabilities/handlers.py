"""What makes the handler of each capability, with what one session has: imported when it is first called."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Protocol, cast

from kernel_runtime.capabilities.powers import Powers
from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.broker.cache import Cache
    from kernel_runtime.broker.call import Called
    from kernel_runtime.broker.commons import Commons
    from kernel_runtime.broker.handler import Handler
    from kernel_runtime.callees import Terms
    from kernel_runtime.capabilities.context import Context
    from kernel_runtime.domain.log import Said
    from kernel_runtime.ports import LogStore, Storage
    from kernel_runtime.workers import session as sessions


def _log(context: Context) -> Handler:
    from kernel_runtime.broker.log import LogHandler

    @functools.cache
    def store() -> LogStore:
        return context.state.log_store(context.space, sealed=context.manifest.encrypted)

    return LogHandler(context.logs, store, context.disclosed.text)


def _storage(context: Context) -> Handler:
    from kernel_runtime.broker.storage import StorageHandler

    def drawer() -> Storage:
        return context.state.drawer(context.space, sealed=context.manifest.encrypted)

    return StorageHandler(drawer, context.space, context.manifest.storage)


def _secrets(context: Context) -> Handler:
    from kernel_runtime.broker.secrets import SecretsHandler

    return SecretsHandler(context.secrets)


def _cache(context: Context) -> Handler:
    from kernel_runtime.broker.cache import CacheHandler

    return CacheHandler(lambda: _chosen_cache(context), context.space)


def _chosen_cache(context: Context) -> Cache:
    """The operator's server, where one is named. There an app that asks for encryption has its values sealed."""
    from kernel_runtime.broker.caches import load_cache

    server = load_cache(context.environment)
    if server is None:
        return context.commons.cache
    from kernel_runtime.broker.cache_redis import RedisCache
    from kernel_runtime.broker.sealed import SealedCache

    password = context.secrets.reveal(server.secret).decode() if server.secret else ""
    key = context.state.data_key(context.space, make=context.manifest.encrypted)
    cache = RedisCache(server, password)
    return cache if key is None else SealedCache(cache, key)


def _call(context: Context) -> Handler:
    from kernel_runtime.broker.apps import Apps
    from kernel_runtime.broker.call import CallHandler
    from kernel_runtime.callees import Callees

    commons = context.commons
    commons.callees = callees = commons.callees or Callees()
    return CallHandler(
        Apps(context.environment),
        lambda called: callees.run(called, _terms_of(called, context)),
        context.journey,
        context.disclosed,
    )


def _terms_of(called: Called, context: Context) -> Terms:
    """A called app's own powers: of its caller's no more than what is denied. Nobody is asked. Topics and cache are
    the front's."""
    from kernel_runtime.callees import Terms

    manifest = called.entry.manifest
    limits, level = manifest.tightened(Limits(), Level.MODERATE)
    powers = Powers(
        name=manifest.id,
        directory=called.entry.directory,
        level=level,
        manifest=manifest,
        deny=context.powers.deny,
        tenant=context.powers.tenant,
        rung=context.powers.rung,
    )
    return Terms(
        limits=limits,
        level=level,
        rung=powers.rung,
        broker=lambda session: context.broker_for(
            powers, session.disclosed, context.commons, called.journey, session.account.carried
        ),
        hear=functools.partial(_hear, context.commons),
    )


class _Hears(Protocol):
    """A broker that keeps what its guest has printed."""

    def hear(self, said: Said) -> None: ...


def _hear(commons: Commons, session: sessions.Session, said: Said) -> None:
    """What a called guest has printed goes where it logs; where that cannot be opened it is lost."""
    try:
        cast("_Hears", session.broker()).hear(said)
    except KernelRuntimeError:
        commons.said.lost += 1


def _events(context: Context) -> Handler:
    from kernel_runtime.broker.events import EventsHandler

    return EventsHandler(context.commons.bus, context.gate.holds)


def _clock(context: Context) -> Handler:
    del context
    from kernel_runtime.broker.host import ClockHandler

    return ClockHandler()


def _db(context: Context) -> Handler:
    from kernel_runtime.broker.databases import load_databases, shown_place
    from kernel_runtime.broker.db import Databases

    named = load_databases(context.environment)
    return Databases(named, secret=context.secrets.reveal, place=shown_place(context.environment))


def _env(context: Context) -> Handler:
    from kernel_runtime.broker.host import EnvHandler

    return EnvHandler(context.environment)


def _files(context: Context) -> Handler:
    from kernel_runtime.broker.files import Files
    from kernel_runtime.broker.roots import own_places

    kept = own_places(context.environment, context.state.directory)
    return Files(base=os.path.abspath(context.directory) if context.directory else "", kept=kept)


def _http(context: Context) -> Handler:
    from kernel_runtime.broker.http import Http

    return Http(secrets=context.secrets.open, carry=context.carry)


#: By the capability's name.
HANDLERS: dict[str, Callable[[Context], Handler]] = {
    "cache": _cache,
    "call": _call,
    "clock": _clock,
    "db": _db,
    "env": _env,
    "events": _events,
    "files": _files,
    "http": _http,
    "log": _log,
    "secrets": _secrets,
    "storage": _storage,
}

"""What a session's guest may ask for: its broker, put together when the guest first asks.

Until then nothing is read and no database opened: a session that asks for nothing pays nothing.
"""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kernel_runtime.broker.broker import Broker, Caller
from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.domain.journey import Journey, Stop
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.log import STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kernel_runtime.broker.cache import Cache
    from kernel_runtime.broker.call import Called
    from kernel_runtime.broker.commons import Commons
    from kernel_runtime.broker.gate import Gate
    from kernel_runtime.broker.handler import Handler
    from kernel_runtime.broker.log import Logs
    from kernel_runtime.broker.secrets import Secrets
    from kernel_runtime.callees import Terms
    from kernel_runtime.domain.disclosed import Disclosed
    from kernel_runtime.domain.level import Rung
    from kernel_runtime.domain.log import Said
    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.domain.policy import Given, Policy
    from kernel_runtime.ports import LogStore, Person, Storage
    from kernel_runtime.state import State
    from kernel_runtime.store.audit import AuditLog
    from kernel_runtime.workers import session as sessions

#: Seconds that the loop waits for a database that another process writes; then it asks again.
_QUICK = 0.005


@dataclass(frozen=True, kw_only=True)
class Powers:
    """What decides for one session. ``manifest``: a file, or one that was read; without one everything may be
    asked for. ``policy``: files beside those that hold in ``directory``. ``allow`` and ``deny``: scopes, as on
    a command line. ``person``: who is asked; without one asking is denying. ``rung``: the weakest that was
    accepted, for the guests of apps that this one calls, too. ``began``: when the session did. ``known``: it is
    told which app it is; what another grants for ever is only for this session, for the next one may be somebody
    else's."""

    name: str = ""
    known: bool = True
    directory: str = ""
    level: Level = Level.MODERATE
    manifest: Manifest | str | None = None
    policy: Sequence[str] = ()
    allow: Sequence[str] = ()
    deny: Sequence[str] = ()
    person: Person | None = None
    tenant: str = ""
    rung: Rung | None = None
    began: float = field(default_factory=time.time)

    def check(self) -> Powers:
        """Itself; ``Invalid`` for scopes that are none, or a manifest that cannot be read."""
        if self.allow or self.deny:
            self._given()
        if isinstance(self.manifest, str):
            self.read_manifest()
        return self

    def read_manifest(self) -> Manifest:
        from kernel_runtime.apps.manifests import read_manifest
        from kernel_runtime.domain.manifest import undeclared

        if self.manifest is None:
            return undeclared(self.name or "notebook")
        return read_manifest(Path(self.manifest)) if isinstance(self.manifest, str) else self.manifest

    def placed_manifest(self) -> Manifest:
        """The manifest of the app in this place: what is remembered, kept and counted is for that one. Another may
        call itself the same, and copy every word of its manifest."""
        read = self.read_manifest()
        named = f"{os.path.realpath(self.directory)}#{self.name}"
        place = named if self.manifest is None else os.path.realpath(read.place)
        once = () if self.known else (secrets.token_hex(16),)
        return replace(read, stamp=_digest(read.stamp, place, *once), holder=_digest(place))

    def gate(self, state: State, disclosed: Disclosed) -> Gate:
        """What decides; everything that holds is read now."""
        manifest = self.placed_manifest()
        gate = state.gate(
            manifest,
            self.held_policy(manifest.level),
            grants=self._given().grants,
            headless=self.person is None,
            redact=disclosed.text,
        )
        gate.recall(self.began)
        return gate

    def held_policy(self, level: Level | None) -> Policy:
        """The rules that hold now, for an app of this level."""
        from kernel_runtime.broker.policies import load_policy

        return load_policy(
            Path(self.directory or os.getcwd()),
            os.environ,
            files=[Path(file) for file in self.policy],
            given=self._given().source,
            confirm=Level.STRICT in (self.level, level),
        )

    def _given(self) -> Given:
        from kernel_runtime.domain.manifest import Anchors
        from kernel_runtime.domain.policy import given

        return given(self.allow, self.deny, Anchors(os.getcwd(), str(Path.home())))


@dataclass(frozen=True, kw_only=True)
class Context:
    """What handlers of one session are made with. ``secrets`` opens granted ones, and keeps them out of outputs;
    ``space``: under what an app's things are kept, apart from all others'; ``journey``: which calls led to it."""

    state: State
    gate: Gate
    disclosed: Disclosed
    secrets: Secrets
    logs: Logs
    commons: Commons
    journey: Journey
    powers: Powers
    space: str = ""
    directory: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def manifest(self) -> Manifest:
        return self.gate.manifest


class SessionBroker(Broker):
    """The broker of one session, with what panels look at. Closes the state that was opened for it."""

    def __init__(self, context: Context, caller: Caller) -> None:
        self.context = context
        self.logs = context.logs
        super().__init__(
            context.gate,
            {name: functools.partial(make, context) for name, make in HANDLERS.items()},
            context.powers.person,
            caller=caller,
            redact=context.disclosed.text,
            on_close=context.state.close,
        )

    def held_policy(self) -> Policy:
        """All rules, read again."""
        return self.context.powers.held_policy(self.gate.manifest.level)

    def hear(self, said: Said) -> None:
        """Keep what its guest has printed, beside what it logs."""
        from kernel_runtime.broker.log import LogHandler, Write

        record = Write(level=said.level, message=said.text, fields={STREAM: said.stream})
        cast("LogHandler", self._handler(LogHandler.name)).keep(
            record, self.gate.manifest.id, self.caller.session
        )

    @property
    def audit(self) -> AuditLog:
        """The audit log, to be read."""
        return self.context.state.audit


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
        broker=lambda session: broker_for(powers, session.disclosed, context.commons, called.journey),
        hear=functools.partial(_hear, context.commons),
    )


def _hear(commons: Commons, session: sessions.Session, said: Said) -> None:
    """What a called guest has printed goes where it logs; where that cannot be opened it is lost."""
    try:
        cast("SessionBroker", session.broker()).hear(said)
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
    from kernel_runtime.broker.databases import load_databases
    from kernel_runtime.broker.db import Databases

    return Databases(load_databases(context.environment), secret=context.secrets.reveal)


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

    return Http(secrets=context.secrets.open)


#: What makes the handler of each capability, in the session that first calls it.
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


def broker_for(
    powers: Powers, disclosed: Disclosed, commons: Commons, journey: Journey | None = None
) -> SessionBroker:
    """Open the state, read what holds, and put the broker together. ``journey``: of a guest that is called; any
    other begins one."""
    from kernel_runtime.state import State

    state = State()
    try:
        return _assembled(powers, state, disclosed, commons, journey)
    except BaseException:
        state.close()
        raise


def _assembled(
    powers: Powers, state: State, disclosed: Disclosed, commons: Commons, journey: Journey | None
) -> SessionBroker:
    from kernel_runtime.broker.log import Logs
    from kernel_runtime.broker.secrets import Secrets

    gate = powers.gate(state, disclosed)
    state.wait_at_most(_QUICK)
    context = Context(
        state=state,
        gate=gate,
        disclosed=disclosed,
        secrets=Secrets(state.vault, disclosed),
        logs=Logs() if journey is None else commons.said,
        commons=commons,
        journey=journey or Journey(stops=(Stop(gate.manifest.id, os.path.realpath(gate.manifest.place)),)),
        powers=powers,
        space=f"{gate.manifest.id} {gate.manifest.holder}",
        directory=powers.directory,
    )
    caller = Caller(
        principal=state.principal, tenant=powers.tenant, session=f"{os.getpid()}-{secrets.token_hex(4)}"
    )
    return SessionBroker(context, caller)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]

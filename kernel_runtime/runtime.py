"""Builds the house: zygotes on the strongest rung there is, and sessions forked from them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.errors import Conflict, WallUnavailable
from kernel_runtime.domain.level import Level, Rung
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.snapshot import Budget, Saving
from kernel_runtime.sandbox import image as images
from kernel_runtime.sandbox import landlock
from kernel_runtime.sandbox.plan import GUEST_TMP, plan_guest
from kernel_runtime.sandbox.rungs import ACCEPT, choose_rung
from kernel_runtime.workers import meter, probe, registry, scratch
from kernel_runtime.workers.ground import make_ground
from kernel_runtime.workers.launch import BARE, Launch
from kernel_runtime.workers.pool import Pool
from kernel_runtime.workers.session import Session
from kernel_runtime.workers.terms import Terms
from kernel_runtime.workers.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kernel_runtime.broker.commons import Commons
    from kernel_runtime.ports import Broker, CheckpointStore
    from kernel_runtime.sandbox.plan import GuestPlan, ImagePlan
    from kernel_runtime.sandbox.rungs import Host
    from kernel_runtime.workers.egress import Egress

#: What the warm zygote imports; what is not installed is left out.
PRELOAD = (
    *BARE,
    "numpy",
    "pandas",
    "pyarrow",
    "matplotlib.pyplot",
    "matplotlib_inline.backend_inline",
)
_ANNOUNCE_SECONDS = 0.5
_MOST_READY = 64
#: Several times what a guest may have open.
_DESCRIPTORS = 65_536
_PASSED_ON = ("LANG", "LC_ALL", "LC_CTYPE", "TERM", "COLUMNS", "LINES", "TZ", "NO_COLOR", "FORCE_COLOR")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a runtime is built with. ``workdir``: the directory guests see (None: none).

    ``warm``: modules that a second zygote preloads in the background, for later guests.
    ``ready``: guests begun ahead, in the background, for terms that were asked for twice.
    ``without``: walls left out, by name: for tests that show what a wall holds.
    ``kind`` is what `kernel-runtime sessions` lists this front as; empty: not at all. ``rung``: the weakest rung that
    was accepted for levels that demand every wall (None: the first).
    """

    kind: str = "program"
    workdir: str | None = None
    warm: tuple[str, ...] = PRELOAD
    ready: int = 0
    without: frozenset[str] = frozenset()
    rung: Rung | None = None


def default_settings(workdir: str | None = None, kind: str = "program") -> Settings:
    """Settings for ``workdir`` (default: the current directory), unless it must stay hidden.

    A kernel opens one session; a program may open many, and then has one guest ready.
    """
    path = os.path.realpath(workdir or os.getcwd())
    warm = PRELOAD if os.environ.get("KERNEL_RUNTIME_WARM", "1") != "0" else ()
    workdir = None if images.why_hidden(path) else path
    return Settings(kind=kind, workdir=workdir, warm=warm, ready=_ready() if kind == "program" else 0)


def _ready() -> int:
    """KERNEL_RUNTIME_READY, a number of guests: 1 if it is not set or no number."""
    text = os.environ.get("KERNEL_RUNTIME_READY", "")
    return min(int(text), _MOST_READY) if text.isdecimal() else 1


class Runtime:
    """Zygotes and the sessions forked from them. ``launch``: a bare zygote started earlier."""

    def __init__(self, settings: Settings, launch: Launch | None = None) -> None:
        self.settings = settings
        self._launch = launch
        self._bare: Zygote | None = None
        self._warm: Zygote | None = None
        self._warming: asyncio.Task[None] | None = None
        self._sessions: set[Session] = set()
        self._pool = Pool(settings.ready, self._begin, self._is_current)
        self._closed = False
        self._store: CheckpointStore | None = None
        self._rung = Rung.NAMESPACES
        self._host: Host | None = None
        _allow_descriptors_on_their_way()

    def open_session(
        self,
        *,
        limits: Limits | None = None,
        level: Level = Level.MODERATE,
        name: str = "",
        arguments: Sequence[str] = (),
        grace: float = 10.0,
        rung: Rung | None = None,
        flood: str = "cut",
        notices: bool = True,
        snapshots: Budget | None = None,
        automatic: bool = True,
        idle: float | None = None,
        key: str = "",
        saving: Saving | None = None,
        blocked: Sequence[tuple[str, str, str]] = (),
        egress: Egress | None = None,
        shown_by: str = "",
        broker: Callable[[Session, Commons], Broker] | None = None,
    ) -> Session:
        """A session that begins to start now; ``await session.ready()`` waits for it, or raises
        ``WallUnavailable`` with the fix when this host cannot build its walls. ``rung``: the
        weakest that is accepted (default: what the runtime's settings say). ``flood``: what
        becomes of a cell whose output is one (``cut`` or ``end``); ``notices``: warnings of limits
        are also lines on the cell's stderr; ``blocked``: what strict's language refuses beside its own
        rules. ``snapshots``: what snapshots may take; ``automatic``: whether there is one before each
        cell. ``idle``: seconds in which nothing is asked of it, after which it is paused. ``key``: the notebook or
        session whose checkpoints are written and offered; ``saving``: when they are made by themselves.
        ``egress``: who serves what its ordinary clients ask of the network (a ``broker.proxy.Proxy``); it is
        closed with the session. On the rung without namespaces there is none. ``shown_by``: the magic that shows its
        limits, where the front has one. ``broker`` makes what its
        guest asks for capabilities, when it first does."""
        if self._closed:
            raise Conflict("the runtime is closed")
        workdir = None if level is Level.STRICT else self.settings.workdir
        terms = Terms(
            level=level,
            limits=limits or Limits(),
            workdir=workdir,
            cwd=workdir or GUEST_TMP,
            env=guest_environment(self._home()),
            arguments=list(arguments),
            name=name,
            grace=grace,
            flood=flood,
            notices=notices,
            snapshots=snapshots or Budget(),
            automatic=automatic,
            idle=idle,
            key=key,
            saving=saving or Saving(),
            blocked=list(blocked) if level is Level.STRICT else [],
            egress=egress is not None,
            shown_by=shown_by,
        )
        accepted = rung or self.settings.rung
        session = self._pool.take(terms, accepted) or self._begin(terms, accepted)
        if egress is not None:
            session.attach(egress)
        if broker is not None:
            session.ask_at(lambda asking: broker(asking, self.commons))
        self._sessions.add(session)
        if self.settings.kind:
            _announce_soon(self.settings.kind, session)
        return session

    @functools.cached_property
    def commons(self) -> Commons:
        """What its sessions share beyond walls: topics, values for a while."""
        from kernel_runtime.broker.commons import Commons  # not before a guest asks for something

        return Commons()

    def _begin(self, terms: Terms, accepted: Rung | None) -> Session:
        session = Session(
            terms,
            lambda: self._zygote_for(terms.level, accepted),
            lambda image: self._plan(image, terms),
            self._checkpoints,
        )
        session.start()
        return session

    def _is_current(self, session: Session) -> bool:
        """Whether a guest begun earlier comes from where a new one would come from."""
        warm = self._warm if self._warm is not None and self._warm.alive else self._bare
        return session.zygote is not None and session.zygote.alive and session.zygote is warm

    async def close_session(self, session: Session) -> None:
        self._sessions.discard(session)
        if self.settings.kind:
            _withdraw(self.settings.kind, session)
        await session.close()
        self._close_bare_if_unused()

    def _checkpoints(self, create: bool) -> CheckpointStore | None:
        """The store on this host's disk, opened when it is first needed; None where there is none and
        none is to be made."""
        if self._store is None:
            from kernel_runtime.store.place import default_directory

            if not create and not default_directory().is_dir():
                return None
            from kernel_runtime.store.checkpoints import DiskStore  # SQL and cryptography: not at each start

            self._store = DiskStore()
        return self._store

    @property
    def sessions(self) -> list[Session]:
        return list(self._sessions)

    def _plan(self, image: ImagePlan, terms: Terms) -> GuestPlan:
        return plan_guest(
            image,
            terms.level,
            terms.limits,
            arch=os.uname().machine,
            without=self.settings.without,
            ground=make_ground(image),
            egress=terms.egress,
            copies=meter.room_for_copies(terms.snapshots),
        )

    def _home(self) -> str:
        zygote = self._warm or self._bare
        return zygote.image.home if zygote is not None else self._bare_launch().image.home

    def _bare_launch(self) -> Launch:
        if self._launch is None:
            self._launch = self._new_launch(list(BARE))
        return self._launch

    def _new_launch(self, preload: list[str]) -> Launch:
        if self._rung is Rung.NAMESPACES:
            return Launch(preload, self.settings.workdir)
        return Launch(preload, self.settings.workdir, self._rung, scratch.make(os.getuid(), os.getgid()))

    async def _zygote_for(self, level: Level, accepted: Rung | None) -> Zygote:
        """A zygote on the strongest rung that this host has and ``level`` may stand on.

        Levels that demand every wall are not asked about: they are built, or refused.
        """
        lenient = level is Level.PERMISSIVE or accepted is Rung.LANDLOCK
        if lenient and self._host is None:
            self._host = await asyncio.to_thread(probe.host)
        if self._host is not None and choose_rung(level, self._host, accepted) is not self._rung:
            self._step_down()
        try:
            return await self._best_zygote()
        except WallUnavailable as error:
            if landlock.abi() < landlock.SCOPES_SINCE or self._rung is Rung.LANDLOCK:
                raise
            raise WallUnavailable(error.wall, error.reason, f"{error.fix}. {ACCEPT}") from None

    def _step_down(self) -> None:
        """This host has no namespaces for us: what was begun with them is dropped."""
        self._rung = Rung.LANDLOCK
        scratch.sweep()
        launch, self._launch = self._launch, None
        zygote, self._bare = self._bare, None
        if zygote is not None:
            zygote.close()
        elif launch is not None:
            launch.end()

    async def _best_zygote(self) -> Zygote:
        """The warm one once it stands, else the bare one; a new one for one that is gone."""
        if self._warm is not None and self._warm.alive and self._warm.preloaded is not None:
            return self._warm
        if self._bare is None or not self._bare.alive:
            if self._bare is not None:
                self._launch = None
            self._bare = Zygote(self._bare_launch())
        await self._bare.booted()
        return self._bare

    def warm_up(self) -> None:
        """Begin to warm the second zygote; unused sessions move to it when it stands."""
        if self._warming is None and self.settings.warm and not self._closed:
            self._warming = asyncio.get_running_loop().create_task(self._warm_up())

    async def _warm_up(self) -> None:
        zygote = Zygote(self._new_launch(list(self.settings.warm)))
        try:
            await zygote.booted()
        except Exception:  # noqa: BLE001 — the bare one does all the same; a missing wall shows there
            return
        except asyncio.CancelledError:  # the runtime is being closed
            zygote.close()
            raise
        self._warm = zygote
        for session in (*self.sessions, *self._pool.waiting):
            with contextlib.suppress(Exception):
                await session.renew()
        self._close_bare_if_unused()

    def _close_bare_if_unused(self) -> None:
        """Later guests come from the warm zygote: a bare one without guests only takes memory."""
        warm, bare = self._warm, self._bare
        if warm is None or bare is None or not warm.alive:
            return
        if not any(session.zygote is bare for session in (*self._sessions, *self._pool.waiting)):
            self._bare = self._launch = None
            bare.close()

    async def close(self) -> None:
        """End every session and zygote."""
        self._closed = True
        await self._pool.close()
        for session in self.sessions:
            await self.close_session(session)
        if "commons" in vars(self):
            await self.commons.close()
        if self._warming is not None:
            self._warming.cancel()
        for zygote in (self._bare, self._warm):
            if zygote is not None:
                zygote.close()
        if self._store is not None:
            self._store.close()


def _allow_descriptors_on_their_way() -> None:
    """Descriptors that are passed and not yet taken count for all processes of a user, and are held
    against the sender's own limit: a front with a higher one than its guests can always send."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


#: Every session of this process, over all runtimes: one entry in the registry lists them.
_announced: set[Session] = set()


def _announce_soon(kind: str, session: Session) -> None:
    """List the session for `kernel-runtime sessions`, when its start no longer needs the time."""
    _announced.add(session)
    asyncio.get_running_loop().call_later(_ANNOUNCE_SECONDS, _announce_born, kind, session)


def _announce_born(kind: str, session: Session) -> None:
    """Once more later, while its first process does not exist yet."""
    _announce(kind)
    if session in _announced and not session.pid:
        asyncio.get_running_loop().call_later(_ANNOUNCE_SECONDS, _announce_born, kind, session)


def _withdraw(kind: str, session: Session) -> None:
    _announced.discard(session)
    _announce(kind)


def _announce(kind: str) -> None:
    entries = [
        {
            "name": session.terms.name,
            "pid": session.pid,
            "level": str(session.level),
            "began": session.began,
            "workdir": session.terms.workdir or "",
        }
        for session in list(_announced)
    ]
    # The list is a convenience: a full disk or a foreign directory must not end a session.
    with contextlib.suppress(OSError, Conflict):
        if entries:
            registry.announce({"kind": kind, "sessions": entries})
        else:
            registry.withdraw()


def guest_environment(home: str) -> dict[str, str]:
    """The guest's whole environment: the locale and terminal of the host, and nothing else of it."""
    import sys

    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        "PATH": f"{os.path.dirname(sys.executable)}:/usr/local/bin:/usr/bin:/bin",
        "HOME": home,
        "USER": "guest",
        "LOGNAME": "guest",
        "LANG": "C.UTF-8",
        "TERM": "xterm-color",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONDONTWRITEBYTECODE": "1",
        "VIRTUAL_ENV": sys.prefix,
        **passed,
    }

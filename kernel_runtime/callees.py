"""Guests of called apps: a fresh one for each call, forked from a zygote that sees that app's directory alone.

The zygotes are kept for the calls of one front, and end with it.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime import wire
from kernel_runtime.broker.call import Answered
from kernel_runtime.domain.errors import CallFailed, Conflict, GuestLost, LimitExceeded, ProtocolViolation
from kernel_runtime.domain.exchange import ASKED, REPLY, Asked
from kernel_runtime.domain.level import Level
from kernel_runtime.guest.serving import MAGIC
from kernel_runtime.outside import Outside
from kernel_runtime.runtime import Runtime, Settings, default_settings
from kernel_runtime.sandbox.image import why_hidden
from kernel_runtime.workers.hearing import Hearing
from kernel_runtime.workers.launch import BARE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from kernel_runtime.broker.apps import Entry
    from kernel_runtime.broker.call import Called
    from kernel_runtime.domain.level import Rung
    from kernel_runtime.domain.limits import Limits
    from kernel_runtime.domain.log import Said
    from kernel_runtime.ports import Broker
    from kernel_runtime.workers.session import Session

#: Called guests of one front at a time, whoever called them; apps whose zygotes are kept.
MOST_GUESTS, MOST_KEPT = 32, 8
#: Behind the name of the package in a requirement.
_NOT_OF_NAMES = re.compile(r"[^\w.-]")
_CELL = "import kernel_runtime.guest.serving as __kernel_runtime_call__\n__kernel_runtime_call__.serve(globals())\n"
_STRICT_CELL = f"get_ipython().run_line_magic({MAGIC!r}, '')\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a called guest lives with. ``broker`` makes whom it asks; ``hear`` gets what it prints."""

    limits: Limits
    level: Level
    rung: Rung | None
    broker: Callable[[Session], Broker]
    hear: Callable[[Session, Said], None]


@dataclass(slots=True)
class _Home:
    """One app's directory: the runtime whose zygote sees it, its guests now, and its calls so far."""

    runtime: Runtime
    guests: int = 0
    calls: int = 0


class Callees:
    """See the module. Everything happens in one event loop."""

    def __init__(self) -> None:
        self._homes: OrderedDict[tuple[str, int, int], _Home] = OrderedDict()
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, called: Called, terms: Terms) -> Answered:
        """What the handler's guest left as its reply; ``CallFailed`` when it left none."""
        guests = sum(home.guests for home in self._homes.values())
        if guests >= MOST_GUESTS:
            raise Conflict(f"{guests} called apps run already: wait for some of them")
        home = self._home(called.entry)
        session = _open(home.runtime, called, terms)
        home.guests += 1
        hearing = Hearing(lambda said: terms.hear(session, said), terms.limits.output)
        session.on_stray(hearing)
        try:
            return await _answered(session, called, hearing)
        finally:
            hearing.close()
            self._end(home, session)

    async def close(self) -> None:
        """End every zygote; the calls have been cancelled by those who made them."""
        while self._ending:
            await asyncio.wait(self._ending)
        while self._homes:
            await self._homes.popitem()[1].runtime.close()

    def _home(self, entry: Entry) -> _Home:
        """By what the directory is now: one that was put in its place is another one."""
        directory = entry.directory
        try:
            status = os.stat(directory)
        except OSError as error:
            raise CallFailed(f"the app's directory cannot be read: {error.strerror}") from None
        key = (directory, status.st_dev, status.st_ino)
        if key not in self._homes:
            if why_hidden(directory):
                raise CallFailed("the app lies where no guest may look: give it a directory of its own")
            self._homes[key] = _Home(Runtime(settings_for(entry)))
        self._homes.move_to_end(key)
        home = self._homes[key]
        home.calls += 1
        if home.calls > 1:
            home.runtime.warm_up()
        self._let_go(home)
        return home

    def _let_go(self, present: _Home) -> None:
        """Of those that were not called for longest."""
        idle = [key for key, home in self._homes.items() if home is not present and not home.guests]
        for key in idle[: max(0, len(self._homes) - MOST_KEPT)]:
            self._begin(self._homes.pop(key).runtime.close())

    def _end(self, home: _Home, session: Session) -> None:
        """Whoever called does not wait for it; it counts as a guest until it has gone."""

        async def end() -> None:
            await home.runtime.close_session(session)
            home.guests -= 1

        self._begin(end())

    def _begin(self, ending: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task


def settings_for(entry: Entry) -> Settings:
    """Its warm zygote, from the second call on, has imported what the manifest depends on, and not all that there is."""
    settings = default_settings(entry.directory)
    declared = {_NOT_OF_NAMES.split(one)[0].lower() for one in entry.manifest.table.dependencies}
    warm = tuple(name for name in settings.warm if name in BARE or name.partition(".")[0] in declared)
    return msgspec.structs.replace(settings, kind="", warm=warm)


def _open(runtime: Runtime, called: Called, terms: Terms) -> Session:
    outside = Outside()
    session = runtime.open_session(
        limits=terms.limits,
        level=terms.level,
        rung=terms.rung,
        name=called.entry.name,
        notices=False,
        automatic=False,
        egress=outside,
        broker=lambda asking, _: terms.broker(asking),
    )
    outside.of(session)
    session.disclosed.take(called.passed)
    return session


async def _answered(session: Session, called: Called, hearing: Hearing) -> Answered:
    try:
        await session.put(ASKED, wire.Value(format="bytes", data=_asked(session, called)))
        verdict = await session.submit(_cell(session.level), hearing, keep=False)
        if verdict is not None:
            raise CallFailed(f"{called.entry.name}: {session.disclosed.text(verdict.explain())}")
        reply = await session.get(REPLY, as_it_is=True)  # packed: what takes secrets out must unpack it first
    except (GuestLost, LimitExceeded) as error:
        said = session.disclosed.text(error.verdict.explain())
        raise CallFailed(f"{called.entry.name}: {said}") from None
    except (Conflict, ProtocolViolation):
        raise CallFailed(f"{called.entry.name}: its guest left no answer") from None
    return Answered(reply.data, session.disclosed)


def _asked(session: Session, called: Called) -> bytes:
    entry = called.entry
    asked = Asked(
        directory=entry.directory,
        module=entry.module,
        function=entry.function,
        path=entry.path,
        arguments=called.arguments,
        source=entry.source if session.level is Level.STRICT else "",
    )
    return msgspec.msgpack.encode(asked)


def _cell(level: Level) -> wire.Request:
    content = {
        "code": _STRICT_CELL if level is Level.STRICT else _CELL,
        "silent": False,
        "store_history": False,
    }
    more = {"user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
    return wire.Request(
        id="call", kind="execute_request", content=msgspec.json.encode(content | more), count=1
    )

"""Named guests of ``%%sandbox``: opened when first used, kept between cells, and talked to
from the thread that runs the cell.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from kernel_runtime.domain.amounts import show_amount
from kernel_runtime.domain.errors import Conflict, NotFound
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits, parse_limits
from kernel_runtime.jupyter.cell_person import CellPerson
from kernel_runtime.jupyter.line import Line
from kernel_runtime.jupyter.panels.logbook import LogBook

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.domain.records import Records
    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.jupyter.guest import Sink
    from kernel_runtime.result import Output, Result

    #: Code, or what begins some in the guests' loop.
    Running = str | Callable[[Sink], Awaitable[Verdict | None]]


#: Between two looks while a cell runs.
_LOOK_SECONDS = 0.5


class Guest(Protocol):
    """What is used of a ``kernel_runtime.Session``."""

    @property
    def limits(self) -> Limits: ...

    @property
    def level(self) -> Level: ...

    @property
    def idle(self) -> float | None: ...

    @property
    def records(self) -> Records: ...

    def run(
        self,
        code: str,
        *,
        check: bool = True,
        on_output: Callable[[Output], None] | None = None,
        on_input: Callable[[str, bool], str | None] | None = None,
        cell: int = 0,
    ) -> Result: ...

    def value(self, name: str) -> Any: ...

    def put(self, name: str, value: Any) -> None: ...

    def interrupt(self) -> None: ...

    def restart(self) -> None: ...

    def follow(
        self,
        begin: Callable[[Sink], Awaitable[Verdict | None]],
        *,
        check: bool = True,
        on_output: Callable[[Output], None] | None = None,
        on_input: Callable[[str, bool], str | None] | None = None,
    ) -> Result: ...

    @property
    def watched(self) -> Any: ...

    def close(self) -> None: ...


def limit_seen_inside(ename: str, evalue: str) -> str | None:
    """The limit behind an error that the guest's own code got to see: ``memory``, ``disk`` or None.
    For outcomes that carry no verdict of the host's."""
    if ename == "MemoryError":
        return "memory"
    if ename == "OSError" and evalue.startswith(("[Errno 27]", "[Errno 28]")):  # EFBIG, ENOSPC
        return "disk"
    return None


def converse(
    guest: Guest,
    code: Running,
    handle: Callable[[Output | Line], None],
    hear: Callable[[Output], None] = lambda _: None,
    person: CellPerson | None = None,
    cell: int = 0,
) -> Result:
    """Run ``code`` in ``guest`` (or what it begins, in the guests' loop); ``handle`` gets its outputs and the lines to
    be typed in the calling thread, ``hear`` the outputs in whichever thread they come in, before. ``person``: is asked in this thread,
    too. ``cell``: the code's number, where it has one.

    The guest is waited for in another thread, so that this one can print, ask the person and
    notice Ctrl-C: that interrupts the guest, and outputs go on until its cell has ended.
    """
    events = _Events()
    asked: set[Line] = set()

    def ask(prompt: str, password: bool) -> str | None:
        answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        line = Line(prompt, answers.put, password=password)
        asked.add(line)
        events.put(line)
        text = answers.get()
        asked.discard(line)
        return text

    def take(output: Output) -> None:
        hear(output)
        events.put(output)

    def run() -> None:
        end: Any = None
        try:
            end = _result(guest, code, cell, on_output=take, on_input=ask)
        except BaseException as error:  # noqa: BLE001 — handed to the calling thread, which raises it
            end = error
        for line in list(asked):
            line.withdraw()
            line.answer(None)
        if person is not None:
            person.hush()
        events.put(end)

    ended: Any = None
    with nullcontext() if person is None else person.during(events.put):
        threading.Thread(target=run, name="kernel_runtime cell", daemon=True).start()
        try:
            while ended is None:
                try:
                    ended = _handle_all(events, handle)
                except KeyboardInterrupt:
                    if person is not None:
                        person.interrupted()
                    guest.interrupt()
        finally:
            if ended is None:  # this thread gives up (Ctrl-C twice, a broken pipe): the cell must not go on
                guest.interrupt()
    if isinstance(ended, BaseException):
        raise ended
    result: Result = ended
    return result


def _result(guest: Guest, code: Running, cell: int, **handlers: Any) -> Result:
    if isinstance(code, str):
        return guest.run(code, check=False, cell=cell, **handlers)
    return guest.follow(code, check=False, **handlers)


def _handle_all(events: _Events, handle: Callable[[Output | Line], None]) -> Any:
    """Handle events until the one that is the end, and return that."""
    while isinstance(event := events.first(), dict | Line):
        events.drop()
        handle(event)
    return event


class _Events:
    """A queue whose reader may be interrupted anywhere and still finds the last event."""

    def __init__(self) -> None:
        self._events: deque[Any] = deque()
        self._there = threading.Event()

    def put(self, event: Any) -> None:
        self._events.append(event)
        self._there.set()

    def first(self) -> Any:
        """The oldest event, which stays; waits for one. A signal that comes just before the waiting does not
        end it: what the person pressed is heard at the next look."""
        while not self._events:
            self._there.clear()
            if not self._events:
                self._there.wait(_LOOK_SECONDS)
        return self._events[0]

    def drop(self) -> None:
        self._events.popleft()


class Guests:
    """The guests of one notebook, by name; an app's by its id. ``logs``: what they have said; ``known``: which
    notebook this is; ``on_end`` is told of each that ends."""

    def __init__(
        self,
        opener: Callable[[str, Limits, Level, float | None, CellPerson], Guest],
        app_opener: Callable[[Manifest, CellPerson], Guest],
        *,
        known: bool,
    ) -> None:
        self._open = opener
        self._open_app = app_opener
        self._known = known
        self._stamps: dict[str, str] = {}
        self.logs = LogBook()
        self.on_end: Callable[[str], None] = lambda name: None
        self._guests: dict[str, Guest] = {}
        self._persons: dict[str, CellPerson] = {}

    def names(self) -> list[str]:
        return sorted(self._guests)

    def apps(self) -> list[str]:
        """Those of them that are apps."""
        return sorted(self._stamps)

    def get(self, name: str) -> Guest:
        """The guest of that name, or ``NotFound`` with the names there are."""
        if name not in self._guests:
            there = ", ".join(self.names()) or "none yet"
            raise NotFound(f"no guest is called {name!r}; there are: {there}")
        return self._guests[name]

    def person(self, name: str) -> CellPerson:
        """Who is asked about what the guest of that name requests."""
        self.get(name)
        return self._persons[name]

    def take(
        self,
        name: str,
        amounts: Mapping[str, str],
        level: Level | None,
        *,
        idle: float | None = None,
        fresh: bool = False,
    ) -> Guest:
        """The guest ``name``, opened now if need be; what was written must agree with a kept one."""
        asked = parse_limits(dict(amounts), Limits(), "%%sandbox")
        if fresh and name in self._guests:
            self.kill(name)
        if name not in self._guests:
            self._keep(name, lambda person: self._open(name, asked, level or Level.MODERATE, idle, person))
        guest = self._guests[name]
        _check_agreement(name, guest, {limit: getattr(asked, limit) for limit in amounts}, level)
        if idle is not None and (idle or None) != guest.idle:
            _refuse(name, "idle", _span(guest.idle), _span(idle))
        return guest

    def take_app(self, manifest: Manifest, *, fresh: bool = False) -> tuple[Guest, bool]:
        """The guest of an app, and whether it had to begin anew: with other words in its manifest it does."""
        name = manifest.id
        kept = self._stamps.get(name)
        if name in self._guests and kept is None:
            raise Conflict(
                f"a guest of %%sandbox is called {name!r}: `%sandbox kill {name}`, or give the app another id"
            )
        if name in self._guests and (fresh or kept != manifest.stamp):
            self.kill(name)
        if name not in self._guests:
            self._keep(name, lambda person: self._open_app(manifest, person))
            self._stamps[name] = manifest.stamp
        return self._guests[name], kept not in (None, manifest.stamp)

    def _keep(self, name: str, opened: Callable[[CellPerson], Guest]) -> None:
        person = CellPerson(name, known=self._known)
        self._guests[name] = opened(person)
        self._persons[name] = person

    def kill(self, name: str) -> None:
        """End a guest and forget it."""
        guest = self.get(name)
        del self._guests[name], self._persons[name]
        self._stamps.pop(name, None)
        self.on_end(name)
        guest.close()

    def reset(self, name: str) -> None:
        """Give a guest a clean interpreter; its limits stay."""
        self.get(name).restart()

    def close(self) -> None:
        """End all of them."""
        for name in self.names():
            self.kill(name)


def _check_agreement(name: str, guest: Guest, asked: dict[str, Any], level: Level | None) -> None:
    """``Conflict`` if a kept guest has other limits than were written."""
    for limit, amount in asked.items():
        kept = getattr(guest.limits, limit)
        if amount != kept:
            _refuse(name, limit, show_amount(limit, kept), show_amount(limit, amount))
    if level is not None and level != guest.level:
        _refuse(name, "level", guest.level, level)


def _span(idle: float | None) -> str:
    return f"{idle:g} s" if idle else "off"


def _refuse(name: str, what: str, kept: str, asked: str) -> None:
    raise Conflict(
        f"the guest {name!r} lives with {what} {kept}, and that cannot become {asked} while it lives. "
        f"Add --fresh to start it anew (its variables are lost), or use another --name"
    )

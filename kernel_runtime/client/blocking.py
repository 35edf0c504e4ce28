"""``Session``: the same for callers that cannot await, and the loop that it lives in."""

from __future__ import annotations

import atexit
import functools
from typing import TYPE_CHECKING, Any, TypeVar

from kernel_runtime.client.asynchronous import AsyncSession
from kernel_runtime.client.gates import Gates
from kernel_runtime.client.runtimes import close_runtimes
from kernel_runtime.domain.level import Level, Rung
from kernel_runtime.workers.portal import Portal

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
    from types import TracebackType

    from kernel_runtime.domain.checkpoint import Checkpoint
    from kernel_runtime.domain.difference import Difference
    from kernel_runtime.domain.file_changes import FileChanges, Outcome
    from kernel_runtime.domain.limits import Limits
    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.domain.records import Records
    from kernel_runtime.domain.snapshot import Budget, Saving, Snapshot
    from kernel_runtime.domain.usage import Nearly, Usage
    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.ports import Person
    from kernel_runtime.result import Output, Result
    from kernel_runtime.workers import session as sessions
    from kernel_runtime.workers.branch import Sink
    from kernel_runtime.workers.checkpoints import Restored
    from kernel_runtime.workers.restoration import Restoration


T = TypeVar("T")


class Session(Gates):
    """``AsyncSession`` for callers that cannot await: the same methods, blocking."""

    _session: AsyncSession

    def __init__(
        self,
        *,
        level: Level | str = Level.MODERATE,
        workdir: str | os.PathLike[str] | None = "",
        limits: Limits | None = None,
        name: str = "",
        flood: str = "cut",
        policy: str = "",
        rung: Rung | str | None = None,
        on_warning: Callable[[Nearly], None] | None = None,
        automatic: bool = True,
        snapshots: Budget | None = None,
        idle: str | float | None = None,
        manifest: Manifest | str | os.PathLike[str] | None = None,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        person: Person | None = None,
        saving: Saving | None = None,
        **amounts: object,
    ) -> None:
        self._session = AsyncSession(
            level=level,
            workdir=workdir,
            limits=limits,
            name=name,
            flood=flood,
            policy=policy,
            rung=rung,
            on_warning=on_warning,
            automatic=automatic,
            snapshots=snapshots,
            idle=idle,
            manifest=manifest,
            allow=allow,
            deny=deny,
            person=person,
            saving=saving,
            **amounts,
        )
        self._portal = _portal()

    def __enter__(self) -> Session:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def limits(self) -> Limits:
        return self._session.limits

    @property
    def level(self) -> Level:
        return self._session.level

    @property
    def name(self) -> str:
        return self._session.name

    @property
    def idle(self) -> float | None:
        """Seconds in which nothing is asked of the guest, after which it is paused; None: never."""
        return self._session.idle

    @property
    def watched(self) -> sessions.Session:
        """What panels watch; to be used ``in_the_loop`` alone."""
        return self._session.watched

    @property
    def records(self) -> Records:
        """What its runs were and have shown, for ``replay``."""
        return self._session.records

    @property
    def walls(self) -> list[str]:
        """The walls that stand around the guest, by name."""
        return self._session.walls

    @property
    def denied(self) -> list[str]:
        """The system calls that were denied to the guest so far, like ``socket(AF_VSOCK)``."""
        return self._session.denied

    @property
    def standing(self) -> dict[str, object]:
        """The record of its walls; see ``AsyncSession.standing``."""
        return self._session.standing

    @property
    def partial(self) -> dict[str, str]:
        """The limits that this host cannot hold exactly, and what stands in for it."""
        return self._session.partial

    def open(self) -> None:
        """Start the guest and wait until it takes code."""
        self._portal.call(self._session.open())

    def close(self) -> None:
        """End the guest; its variables and files are gone."""
        self._portal.call(self._session.close())

    def run(
        self,
        code: str,
        *,
        check: bool = True,
        on_output: Callable[[Output], None] | None = None,
        on_input: Callable[[str, bool], str | None] | None = None,
        cell: int = 0,
    ) -> Result:
        """``AsyncSession.run``; Ctrl-C interrupts the guest. ``on_output`` is called in the
        portal's thread, ``on_input`` in a thread of its own."""
        running = self._session.run(code, check=check, on_output=on_output, on_input=on_input, cell=cell)
        return self._portal.call(running, on_interrupt=self._session.interrupt)

    def follow(
        self,
        begin: Callable[[Sink], Awaitable[Verdict | None]],
        *,
        check: bool = True,
        on_output: Callable[[Output], None] | None = None,
        on_input: Callable[[str, bool], str | None] | None = None,
    ) -> Result:
        """See ``AsyncSession.follow``; ``begin`` is called in the portal's thread."""
        running = self._session.follow(begin, check=check, on_output=on_output, on_input=on_input)
        return self._portal.call(running, on_interrupt=self._session.interrupt)

    def value(self, name: str) -> Any:
        """A variable of the guest, by value; see ``AsyncSession.value``."""
        return self._portal.call(self._session.value(name))

    def put(self, name: str, value: Any) -> None:
        """Set a variable of the guest to a copy of ``value``."""
        self._portal.call(self._session.put(name, value))

    def restart(self) -> None:
        """A fresh guest in milliseconds."""
        self._portal.call(self._session.restart())

    def interrupt(self) -> None:
        """KeyboardInterrupt in the code that runs now (from another thread)."""
        self._portal.call(_call_in_loop(self._session.interrupt))

    def usage(self) -> Usage:
        """What the guest uses now, measured from outside (from another thread: also during a run)."""
        return self._portal.call(self._session.usage())

    def snapshot(
        self, name: str = "", *, pin: bool = False, refuse: bool = False, durable: bool = False
    ) -> Snapshot:
        """Keep the present state; see ``AsyncSession.snapshot``."""
        return self._portal.call(self._session.snapshot(name, pin=pin, refuse=refuse, durable=durable))

    def restore(self, name: str | int, *, reseed: bool = False) -> Restoration:
        """Go back to a snapshot; see ``AsyncSession.restore``."""
        return self._portal.call(self._session.restore(name, reseed=reseed))

    def undo(self, runs: int = 1) -> Restoration:
        """The state before the last ``runs`` runs."""
        return self._portal.call(self._session.undo(runs))

    def redo(self) -> Restoration:
        """Take back the last ``undo`` or ``restore``."""
        return self._portal.call(self._session.redo())

    def branch(self, line: str) -> Restoration | Snapshot:
        """Go over to a line of state; see ``AsyncSession.branch``."""
        return self._portal.call(self._session.branch(line))

    @property
    def line(self) -> str:
        """The line of state that runs."""
        return self._session.line

    @property
    def lines(self) -> list[str]:
        """The lines of state that there are."""
        return self._session.lines

    @property
    def current(self) -> int | None:
        """The number of the snapshot that the present state came from, if there is one."""
        return self._session.current

    def snapshots(self) -> list[Snapshot]:
        """All of them, oldest first."""
        return self._session.snapshots()

    def pin(self, name: str | int, pinned: bool = True) -> Snapshot:
        """Keep a snapshot whatever the budget says, or no longer."""
        return self._portal.call(self._session.pin(name, pinned))

    def drop(self, name: str | int) -> Snapshot:
        """Forget a snapshot."""
        return self._portal.call(self._session.drop(name))

    def checkpoint(self, label: str = "") -> Checkpoint:
        """Write the variables to disk; see ``AsyncSession.checkpoint``."""
        return self._portal.call(self._session.checkpoint(label))

    def load(self, checkpoint: str, *, names: Iterable[str] | None = None, force: bool = False) -> Restored:
        """Bring the variables of a checkpoint back; see ``AsyncSession.load``."""
        return self._portal.call(self._session.load(checkpoint, names=names, force=force))

    def diff(self, a: str | int, b: str | int | None = None) -> Difference:
        """What differs between two snapshots, or one and now; see ``AsyncSession.diff``."""
        return self._portal.call(self._session.diff(a, b))

    def written_since(self, name: str | int) -> list[str]:
        """The files that were written since a snapshot."""
        return self._portal.call(self._session.written_since(name))

    def revoke(self, scope: str) -> int:
        """Take back what was granted, in every session of the same app; see ``AsyncSession.revoke``."""
        return self._portal.call(self._session.revoke(scope))

    def files(self) -> FileChanges:
        """What the guest has changed in ``workdir``; see ``AsyncSession.files``."""
        return self._portal.call(self._session.files())

    def files_diff(self, path: str) -> str:
        """One of its files beside the host's; see ``AsyncSession.files_diff``."""
        return self._portal.call(self._session.files_diff(path))

    def files_keep(self, path: str) -> Outcome:
        """Make the host's file as the guest's is; see ``AsyncSession.files_keep``."""
        return self._portal.call(self._session.files_keep(path))

    def files_drop(self, path: str = "") -> Outcome:
        """Make the guest's file as the host's is; see ``AsyncSession.files_drop``."""
        return self._portal.call(self._session.files_drop(path))

    def pause(self) -> int:
        """Stop everything in the guest; see ``AsyncSession.pause``."""
        return self._portal.call(self._session.pause())

    def resume(self) -> None:
        """Let a paused guest go on."""
        self._portal.call(self._session.resume())

    def throttle(self, cpus: float | None) -> None:
        """Let it have so many cores' worth of CPU time from now on; see ``AsyncSession.throttle``."""
        self._portal.call(self._session.throttle(cpus))

    def kill(self) -> None:
        """End what runs in it now (from another thread); see ``AsyncSession.kill``."""
        self._portal.call(self._session.kill())


async def _call_in_loop(call: Callable[[], None]) -> None:
    call()


@functools.cache
def _portal() -> Portal:
    """One portal for the process; its guests end with the process."""
    portal = Portal()
    atexit.register(_close_portal, portal)
    return portal


def in_the_loop(coroutine: Coroutine[Any, Any, T], on_interrupt: Callable[[], None] | None = None) -> T:
    """The result of a coroutine in the loop that all sessions of this process live in. Ctrl-C cancels it, or
    calls ``on_interrupt`` there."""
    return _portal().call(coroutine, on_interrupt)


def _close_portal(portal: Portal) -> None:
    portal.call(close_runtimes())
    portal.close()

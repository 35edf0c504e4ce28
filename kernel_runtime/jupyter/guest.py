"""The front's hold on its session: opened in the background, asked for by each cell."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from kernel_runtime import wire
    from kernel_runtime.domain.checkpoint import Checkpoint
    from kernel_runtime.domain.difference import Difference
    from kernel_runtime.domain.file_changes import FileChanges, Outcome
    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.domain.usage import Amount
    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.jupyter.settings import Settings
    from kernel_runtime.ports import Broker
    from kernel_runtime.workers.snapshots import Snapshots

    Sink = Callable[[wire.FromGuest], None]

T = TypeVar("T")


class Amounts(Protocol):
    """What ``usage`` answers."""

    @property
    def memory(self) -> int: ...
    @property
    def peak(self) -> int: ...
    @property
    def cpu(self) -> float: ...
    @property
    def pids(self) -> int: ...
    @property
    def disk(self) -> int | None: ...
    @property
    def wall(self) -> float: ...
    @property
    def amounts(self) -> Mapping[str, Amount]: ...


class Revived(Protocol):
    """What came back of a checkpoint, and what did not, with the reason; ``of``: whose it is, if another's;
    ``unkept``: why undo cannot take that back, if it cannot."""

    @property
    def names(self) -> list[str]: ...
    @property
    def failed(self) -> dict[str, str]: ...
    @property
    def of(self) -> str: ...
    @property
    def unkept(self) -> str: ...


class Session(Protocol):
    """The part of ``workers.session.Session`` that the front uses."""

    execution_count: int
    info: dict[str, object]

    @property
    def walls(self) -> list[str]: ...
    @property
    def missing(self) -> dict[str, str]: ...
    @property
    def partial(self) -> dict[str, str]: ...
    @property
    def is_ready(self) -> bool: ...
    async def ready(self) -> object: ...
    async def submit(
        self, request: wire.Request, sink: Sink, fds: list[int] | None = None, *, keep: bool = True
    ) -> Verdict | None: ...
    @property
    def snapshots(self) -> Snapshots: ...
    @property
    def stops(self) -> Stops: ...
    @property
    def files(self) -> Files: ...
    async def diff(self, a: str | int, b: str | int | None = None) -> Difference: ...
    async def written_since(self, name: str | int) -> list[str]: ...
    async def checkpoint(self, name: str = "") -> Checkpoint: ...
    async def revive(
        self, name: str, *, names: list[str] | None = None, force: bool = False
    ) -> tuple[Checkpoint, Revived]: ...
    @property
    def checkpoint_titles(self) -> list[str]: ...
    async def resume_gate(self, name: str | int, sink: Sink) -> Verdict | None: ...
    async def pause(self) -> int: ...
    def resume(self) -> None: ...
    def hold_wall(self, held: bool) -> None: ...
    def on_stray(self, sink: Sink) -> None: ...
    def answer(self, answer: wire.Answer) -> None: ...
    def interrupt(self) -> None: ...
    async def usage(self) -> Amounts: ...
    async def offer(self) -> str: ...
    def broker(self) -> Broker: ...


class Stops(Protocol):
    """The part of ``workers.stops.Stops`` that the front uses."""

    def listing(self) -> list[Snapshot]: ...
    def find(self, name: str | int) -> tuple[Snapshot, object]: ...
    async def stack(self, name: str | int) -> list[wire.Level]: ...
    async def evaluate(self, name: str | int, expression: str) -> str: ...
    async def set(self, name: str | int, variable: str, expression: str) -> str: ...


class Files(Protocol):
    """The part of ``workers.files.Files`` that the front uses."""

    known: list[str]

    async def changes(self) -> FileChanges: ...
    async def diff(self, path: str) -> str: ...
    async def keep(self, path: str) -> Outcome: ...
    async def drop(self, path: str = "") -> Outcome: ...


class House(Protocol):
    """What opens the session and is closed last: the runtime, or a fake."""

    def open_session(self, settings: Settings) -> Session: ...
    def warm_up(self) -> None: ...
    async def close(self) -> None: ...


class Waits:
    """What is waited for until an interrupt ends it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def unless_interrupted(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of it; ``CancelledError`` on interrupt, when it has let go of all that it held."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        try:
            return await task
        finally:
            self._tasks.discard(task)

    def interrupt(self) -> bool:
        """End the waiting, once: what lets go then is not to be hurried. False when nothing is waited for."""
        for task in self._tasks:
            if not task.cancelling():
                task.cancel()
        return bool(self._tasks)


class Guest:
    """Opens the session and hands it out; an interrupt ends the waiting for it."""

    def __init__(self, house: House, settings: Settings) -> None:
        self._house = house
        self._settings = settings
        self._stray: Sink | None = None
        self.waits = Waits()
        self.session: Session | None = None

    @property
    def missing(self) -> Mapping[str, str]:
        """The walls it stands without, with what stands in for them, as far as known."""
        return self.session.missing if self.session else {}

    @property
    def partial(self) -> Mapping[str, str]:
        """The limits that this host does not hold exactly, and how it holds them, as far as known."""
        return self.session.partial if self.session else {}

    @property
    def walls(self) -> Sequence[str]:
        """The walls the guest stands behind, as far as known."""
        return self.session.walls if self.session else ()

    def open(self, stray: Sink) -> None:
        """Begin to start the guest; trouble shows in the first cell."""
        self._stray = stray
        try:
            self._session()
        except Exception as error:  # noqa: BLE001 - each cell tries again and shows what it is
            self._settings.notes.append(f"the guest did not start: {error}")

    def _session(self) -> Session:
        if self._settings.error is not None:
            raise self._settings.error
        if self.session is None:
            self.session = self._house.open_session(self._settings)
            if self._stray is not None:
                self.session.on_stray(self._stray)
        return self.session

    async def ready(self) -> Session:
        """A session that takes requests; raises what prevents it, ``CancelledError`` on interrupt."""
        session = self._session()
        if not session.is_ready:
            await self.waits.unless_interrupted(session.ready())
        return session

    def interrupt(self) -> None:
        """Interrupt the cell, or the waiting for a guest to run it, or for what is asked of it between cells."""
        if not self.waits.interrupt() and self.session is not None:
            self.session.interrupt()

    def answer(self, answer: wire.Answer) -> None:
        """Pass on what a person typed."""
        if self.session is not None:
            self.session.answer(answer)

    def warm_up(self) -> None:
        """Let the house prepare warmer guests."""
        self._house.warm_up()

    async def close(self) -> None:
        """End the guest and all that belongs to it: the house ends what it opened."""
        await self._house.close()

"""Checkpoints of one session: written by a child of a frozen copy, never by the live branch."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import socket
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from kernel_runtime import wire
from kernel_runtime.domain.amounts import counted
from kernel_runtime.domain.checkpoint import AUTOMATIC, Retention, check_names, check_room
from kernel_runtime.domain.errors import (
    Conflict,
    Damaged,
    GuestLost,
    Invalid,
    KernelRuntimeError,
    NotFound,
    ProtocolViolation,
)
from kernel_runtime.domain.snapshot import check_name
from kernel_runtime.workers.branch import Pending
from kernel_runtime.workers.checkpoints import SaveOrder, receive_checkpoint, send_checkpoint
from kernel_runtime.workers.concealing import concealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kernel_runtime.domain.checkpoint import Checkpoint
    from kernel_runtime.domain.disclosed import Disclosed
    from kernel_runtime.domain.snapshot import Saving, Snapshot
    from kernel_runtime.ports import CheckpointStore
    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.checkpoints import Restored
    from kernel_runtime.workers.snapshots import Snapshots
    from kernel_runtime.workers.terms import Terms
    from kernel_runtime.workers.turns import Turns


_ANSWER_SECONDS = 5.0
#: How often one of them is begun anew.
_TIMES = 3


class StateLeft(Conflict):
    """A checkpoint was being written when its session went over to another state: the writer ended with it."""

    def __init__(self) -> None:
        super().__init__("another state was brought back before the checkpoint was written; make it again")


class Live(Protocol):
    """The part of the session that checkpoints need."""

    snapshots: Snapshots
    used: bool
    disclosed: Disclosed
    terms: Terms
    turns: Turns
    paused: bool

    async def pause(self) -> int: ...
    @property
    def executing(self) -> bool: ...
    async def ready(self) -> Branch: ...
    def resume(self) -> None: ...
    def give_up(self, why: str) -> None: ...


class Durable:
    """``store`` opens the store (made anew if True, else None where there is none); ``saving`` says
    when a checkpoint is made without being asked for."""

    def __init__(
        self, live: Live, store: Callable[[bool], CheckpointStore | None] | None, saving: Saving
    ) -> None:
        self._live = live
        self._open = store
        self._saving = saving
        self._lock = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._last = time.monotonic()
        self._cells = 0
        self._automatic: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._unnamed = f"session-{secrets.token_hex(4)}"
        self.trouble = ""
        self.titles: list[str] = []

    @property
    def key(self) -> str:
        """The notebook or session whose checkpoints they are; one without a name has a key of its own."""
        return self._live.terms.key or self._live.terms.name or self._unnamed

    def close(self) -> None:
        """Let go of the session."""
        self._closed = True  # a cell that ends with it makes nothing due
        for waiting in (self._automatic, self._timer):
            if waiting is not None:
                waiting.cancel()
        self._automatic = self._timer = None
        del self._live

    def _store(self, create: bool) -> CheckpointStore:
        if self._open is None:
            raise Conflict("this session was opened without a place for checkpoints")
        store = self._open(create)
        if store is None:
            raise NotFound("no checkpoint has been kept on this host yet")
        return store

    async def save(self, label: str = "") -> Checkpoint:
        """Write the present state to disk; the live branch stands still only for the fork.

        ``UnsafeThreads`` and ``Conflict`` as for a snapshot; ``StorageFailed`` when the disk does not
        take it: then what was kept before is as it was. What cannot be saved is in ``skipped``.
        """
        if label:
            check_name(label, of="checkpoint")
        if label == AUTOMATIC:
            raise Invalid(f"checkpoint: {label!r} is what those are called that nobody asked for")
        return await self._save(label)

    async def _save(self, label: str) -> Checkpoint:
        store, order = self._store(True), self._order(label)
        async with self._lock:
            written = self._cells  # one that ends while it is written is not in it
            branch = await self._live.ready()
            try:
                with self._live.turns.beside():
                    kept = await self._written(store, order)
            except (GuestLost, ProtocolViolation) as error:
                if await self._live.ready() is branch:
                    raise
                raise StateLeft from error
            self._last, self._cells = time.monotonic(), self._cells - written
            gone = await self._prune(store, order.key)
            titles = dict.fromkeys([kept.title, *self.titles])
            self.titles = [title for title in titles if title not in gone]
            return kept

    async def _written(self, store: CheckpointStore, order: SaveOrder) -> Checkpoint:
        frozen = await self._live.snapshots.take_aside()
        host, guest = socket.socketpair()
        try:
            await frozen.write(guest)
            guest.close()  # the writer alone holds it now: its end is seen here
            return await receive_checkpoint(host, store, order)
        finally:
            host.close()
            guest.close()
            frozen.drop()

    async def _prune(self, store: CheckpointStore, key: str) -> list[str]:
        """Let older ones of the key go, and say which; what prevents it does not make the new one any less kept."""
        try:
            freed = await asyncio.to_thread(store.prune, self._saving.retention or Retention(), key=key)
        except KernelRuntimeError as error:
            self.trouble = f"older checkpoints were not removed: {error}"  # told with the next cell
            return []
        return freed.checkpoints

    def _order(self, label: str) -> SaveOrder:
        return SaveOrder(key=self.key, label=label, clean=self._live.disclosed.text)

    async def load(
        self, name: str, *, names: Iterable[str] | None = None, force: bool = False
    ) -> tuple[Checkpoint, Restored]:
        """Bring variables of a checkpoint back into the live branch, which unpickles them; ``undo``
        takes that back, unless ``unkept`` of what is returned says why not. ``Conflict`` for another Python or other packages (``force``: all the same), and
        for a label that only several other sessions have.
        """
        store = self._store(False)
        kept = await asyncio.to_thread(store.checkpoint, name, self.key)
        names = None if names is None else list(names)
        check_names(kept, names or ())
        groups = await asyncio.to_thread(store.groups, kept.id)
        check_room(groups, names, self._live.terms.limits.memory)
        host, guest = socket.socketpair()
        request = wire.Revive(id=f"revive-{next(self._numbers)}")
        got: list[wire.Got] = []
        disclosed = self._live.disclosed
        pending = Pending(
            request,
            lambda frame: got.append(concealed(frame, disclosed)) if isinstance(frame, wire.Got) else None,
        )
        try:
            async with self._live.turns.turn():
                branch = await self._live.ready()
                if branch.executing:
                    raise Conflict("a cell is running: a checkpoint is restored between cells")
                self._live.used = True
                self._live.resume()
                self._live.snapshots.before_cell(branch)
                branch.begin(pending, request, [guest.fileno()])
        except OSError as error:
            host.close()
            raise Conflict(
                f"the guest does not read what it is sent ({error}): nothing was restored"
            ) from None
        except BaseException:
            host.close()
            raise
        finally:
            guest.close()
        try:
            restored = await send_checkpoint(host, store, kept.id, names=names, force=force)
        except ProtocolViolation:
            await self._answered(pending)
            _check(pending, got)
            raise
        except BaseException:
            await self._answered(pending)
            raise
        await pending.ended
        _check(pending, got)
        of, unkept = "" if kept.key == self.key else kept.key, await self._live.snapshots.unkept()
        failed = concealed(restored.failed, disclosed)
        return kept, replace(restored, failed=failed, id=kept.id, of=of, unkept=concealed(unkept, disclosed))

    async def _answered(self, pending: Pending) -> None:
        """After a failure: the branch says what it was, or it is ended."""
        await asyncio.wait([pending.ended], timeout=_ANSWER_SECONDS)
        if not pending.ended.done():
            self._live.give_up("it did not load the checkpoint")
            await asyncio.wait([pending.ended])  # whoever asks next is not to meet what is being ended

    async def newest(self) -> Checkpoint | None:
        """The newest checkpoint of this notebook or session, if there is one."""
        opened = self._open
        if opened is None:
            return None
        store = await asyncio.to_thread(opened, False)
        kept = [] if store is None else await asyncio.to_thread(store.checkpoints, self.key)
        self.titles = list(dict.fromkeys(one.title for one in kept))
        return kept[0] if kept else None

    async def offer(self) -> str:
        """One line for whoever begins anew where a checkpoint is kept; "" where none is."""
        try:
            kept = await self.newest()
        except Damaged as error:
            return f"no checkpoint can be brought back: {error}"
        except (KernelRuntimeError, OSError):
            return ""
        if kept is None:
            return ""
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.made))
        return f"a checkpoint of {made} is kept ({counted(len(kept.names), 'variable')}): %restore {kept.title} brings it back"

    def cell_ended(self) -> None:
        """A cell is over: make one by itself, if it is time for it."""
        self._cells += 1
        self._look()

    def _look(self) -> None:
        """Make one by itself if it is time for it, or else look again when it will be, if a cell has run since the last.
        While one runs, it is looked at when that ends; while one is made, afterwards."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closed or not self._cells or self._live.executing or self._automatic is not None:
            return
        loop, passed = asyncio.get_running_loop(), time.monotonic() - self._last
        if self._saving.is_due(passed, self._cells):
            self._automatic = loop.create_task(self._save_by_itself())
            self._automatic.add_done_callback(self._saved_by_itself)
        elif self._saving.every is not None:
            self._timer = loop.call_later(self._saving.every - passed, self._look)

    def _saved_by_itself(self, task: asyncio.Task[None]) -> None:
        if self._automatic is task:  # else this is closed
            self._automatic = None
            self._look()

    async def _save_by_itself(self) -> None:
        """A session that is paused goes on for the copy, and is paused again: its last cells are kept like others."""
        paused = self._live.paused
        await self._try_to_save()
        if paused and not (self._live.paused or self._live.executing or self._live.turns.are_taken):
            with contextlib.suppress(KernelRuntimeError):
                await self._live.pause()

    async def _try_to_save(self) -> None:
        """Anew, of the state that came back, where one did meanwhile; told with the next cell where there is none."""
        trouble: Exception | None = None
        for _ in range(_TIMES):
            try:
                await self._save(AUTOMATIC)
                return
            except Conflict as error:
                if self._live.executing:
                    return  # it is due as before, when that cell has ended
                trouble = error
                if not isinstance(error, StateLeft):
                    break
            except (KernelRuntimeError, OSError, TimeoutError) as error:
                trouble = error
                break
        self.trouble = f"no automatic checkpoint: {trouble}"
        self._last, self._cells = time.monotonic(), 0


@contextmanager
def kept_in_memory(snapshot: Snapshot, again: str) -> Iterator[None]:
    """What keeps a snapshot from being on disk as well is told after what there is of it, and before what does that
    ``again``: the error stays what it was."""
    try:
        yield
    except KernelRuntimeError as error:
        kept = f"the snapshot {snapshot.title!r} is kept in memory, but not on disk: {error}"
        error.args = (f"{kept}. When that is mended, {again} keeps the present state on disk",)
        raise


def _check(pending: Pending, got: list[wire.Got]) -> None:
    """Raise what the live branch says of its loading."""
    verdict = pending.ended.result() if pending.ended.done() else None
    if verdict is not None:
        raise GuestLost(verdict)
    if got and got[0].error:
        raise Conflict(f"the checkpoint was not loaded: {got[0].error}")

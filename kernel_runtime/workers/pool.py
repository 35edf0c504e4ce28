"""Ready guests: begun before anybody asks, each handed out once, made up for when it is quiet.

Only terms that were asked for more than once have any: whoever opens one session pays for one.
What nobody takes for ``keep`` seconds is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.level import Rung
    from kernel_runtime.workers.session import Session
    from kernel_runtime.workers.terms import Terms

#: Seconds without anybody asking before a guest is made in the background, and before those that
#: wait are ended.
QUIET, KEEP = 0.2, 300.0
#: Different terms that have ready guests; of more those go that were not asked for longest.
_KINDS = 4


class _Shelf:
    """The ready guests of equal terms."""

    def __init__(self, terms: Terms, rung: Rung | None) -> None:
        self.terms = terms
        self.rung = rung
        self.asked = 0
        self.wanted = False
        self.last_asked = 0.0
        self.ready: deque[Session] = deque()


class Pool:
    """At most ``size`` guests for each kind of terms. ``begin`` starts a session; ``fits`` says
    whether one is as good as a new one. Everything happens in one event loop.
    """

    def __init__(
        self,
        size: int,
        begin: Callable[[Terms, Rung | None], Session],
        fits: Callable[[Session], bool],
        *,
        quiet: float = QUIET,
        keep: float = KEEP,
    ) -> None:
        self._size = size
        self._begin = begin
        self._fits = fits
        self._quiet = quiet
        self._keep = keep
        self._shelves: OrderedDict[bytes, _Shelf] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._filling: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def waiting(self) -> list[Session]:
        """The guests that nobody has yet."""
        return [session for shelf in self._shelves.values() for session in shelf.ready]

    def take(self, terms: Terms, rung: Rung | None) -> Session | None:
        """A ready guest under these terms, nobody else's ever again; None when there is none."""
        if self._size == 0 or self._closed:
            return None
        shelf = self._shelf(terms, rung)
        shelf.asked += 1
        shelf.wanted = shelf.asked > 1
        shelf.last_asked = asyncio.get_running_loop().time()
        self._look_after(self._quiet)
        while shelf.ready:
            session = shelf.ready.popleft()
            if session.stands and self._fits(session):
                session.hand_over(terms)
                return session
            self._end(session)
        return None

    async def close(self) -> None:
        """End every guest that waits; from now on there are none."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])
        for session in self.waiting:
            self._end(session)
        self._shelves.clear()
        if self._ending:
            await asyncio.wait(self._ending)

    def _shelf(self, terms: Terms, rung: Rung | None) -> _Shelf:
        """All but the name must be equal: the guest was begun with it."""
        key = msgspec.msgpack.encode((msgspec.structs.replace(terms, name=""), rung))
        shelf = self._shelves.setdefault(key, _Shelf(terms, rung))
        self._shelves.move_to_end(key)
        while len(self._shelves) > _KINDS:
            _, oldest = self._shelves.popitem(last=False)
            self._empty(oldest)
        return shelf

    def _look_after(self, seconds: float) -> None:
        """Look at the shelves once nobody has asked for so long."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        if self._filling is not None and not self._filling.done():
            self._look_after(self._quiet)
        else:
            self._filling = asyncio.get_running_loop().create_task(self._tend())

    async def _tend(self) -> None:
        """End what nobody wants any more, make what is missing, and look again later."""
        now = asyncio.get_running_loop().time()
        for shelf in list(self._shelves.values()):
            if now - shelf.last_asked >= self._keep:
                shelf.wanted, shelf.asked = False, 0
                self._empty(shelf)
            await self._fill(shelf)
        if any(shelf.wanted for shelf in self._shelves.values()):
            self._look_after(self._keep)

    async def _fill(self, shelf: _Shelf) -> None:
        """A guest that cannot be made is no matter: whoever asks next is told why."""
        for session in [one for one in shelf.ready if not (one.stands and self._fits(one))]:
            shelf.ready.remove(session)
            self._end(session)
        while shelf.wanted and len(shelf.ready) < self._size:
            session = self._begin(shelf.terms, shelf.rung)
            try:
                await session.ready()
            except BaseException as error:
                await session.close()
                if isinstance(error, Exception):
                    return
                raise
            shelf.ready.append(session)

    def _empty(self, shelf: _Shelf) -> None:
        shelf.wanted = False
        while shelf.ready:
            self._end(shelf.ready.popleft())

    def _end(self, session: Session) -> None:
        async def end() -> None:
            with contextlib.suppress(Exception):
                await session.close()

        task = asyncio.get_running_loop().create_task(end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

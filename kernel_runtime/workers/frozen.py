"""A frozen branch as the host sees it: its socket, its pid, and what may be asked of it.

It is stopped by pid 1 while nothing is asked, whatever its memory says it is: what a hostile cell
has made of it computes nothing.

It may have a spare, a copy of it made ahead. Then nothing is forked when it becomes the live branch: the spare is in its
place at once, and so it is when its process ends by itself.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.errors import Conflict, GuestLost, ProtocolViolation
from kernel_runtime.domain.verdict import Reason, Verdict
from kernel_runtime.workers import causes, thawing, written
from kernel_runtime.workers.answers import Answers
from kernel_runtime.workers.concealing import concealed
from kernel_runtime.workers.link import Link
from kernel_runtime.workers.processes import ROLLUP, pid_within, share

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable

    from kernel_runtime.domain.disclosed import Disclosed
    from kernel_runtime.workers.answers import Answer
    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.init import Init
    from kernel_runtime.workers.restoration import How
    from kernel_runtime.workers.written import Pages

ANSWER_SECONDS = 30.0
Shape = TypeVar("Shape")
_AGAIN_SECONDS = 2.0
#: How long a spare is waited for; and how many pages are copied, or mapped, while others wait.
SPARE_SECONDS = 2.0
_COPIED_AT_ONCE, _MAPPED_AT_ONCE = 256, 4096
#: Frames a second that a frozen branch may send: it answers, and says nothing by itself.
_RATE = 1000.0
#: The longest is what it tells of its state. The beginning of one costs the host as much, for each snapshot.
_FRAME = wire.MAX_TOLD + MIB


class Frozen:
    """The host's end. ``ready`` is done when it waits at its socket (again), or has an exception;
    ``on_gone`` is called when it ends by itself; ``thawing`` is the pid that it had when it was last
    ordered to become the live branch; ``title`` is what errors call it.
    """

    def __init__(self, init: Init, disclosed: Disclosed) -> None:
        self.pid = 0
        self.thawing = 0
        self.title = "the snapshot"
        self.on_gone: Callable[[], None] = lambda: None
        self.external: list[str] = []
        self._init = init
        self._disclosed = disclosed
        self._has_room = True
        init.meter.leave_room(1)
        self._lock = asyncio.Lock()
        self._spare: Frozen | None = None
        self._copied: set[int] = set()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers = Answers()
        host, self._guest_socket = socket.socketpair()
        self._link = Link(
            host,
            wire.decode_from_frozen,
            self._on_frame,
            self._on_closed,
            names_sender=True,
            rate=_RATE,
            limit=_FRAME,
        )

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._link.closed

    @property
    def pids(self) -> set[int]:
        """Its process and its spare's, as far as they are known."""
        return {self.pid, self._spare.pid if self._spare is not None else 0} - {0}

    @property
    def has_spare(self) -> bool:
        """Whether there is a spare, or one is being made."""
        return self._spare is not None

    def guest_fd(self) -> int:
        """The guest's end, to be passed once; ``let_go`` closes it here."""
        return self._guest_socket.fileno()

    def let_go(self) -> None:
        self._guest_socket.close()

    async def wait(self) -> None:
        """Until it waits at its socket; ``GuestLost`` when it never will."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.shield(self.ready)
        except TimeoutError:
            raise self._lost(_silent()) from None
        if self.gone:  # between its word and now
            raise self._lost(_ENDED)

    async def weigh(self, *, ask: bool) -> int | None:
        """Bytes that it holds, and its spare, pages that several hold divided among them. Where this host may not look,
        they have to run for it, and are asked if they may be; else None."""
        async with self._lock:
            held, spare = await self._weighed(ask=ask), self._spare
            more = await spare._weighed(ask=ask) if spare is not None else 0
            return None if held is None or more is None else held + more

    async def _weighed(self, *, ask: bool) -> int | None:
        await self.wait()
        try:
            return await asyncio.to_thread(share, self._init.meter.processes.open(self.pid, ROLLUP))
        except OSError:
            return await self._told_weight() if ask else None

    async def _told_weight(self) -> int:
        weighed = await self._answered(wire.Weigh())
        if not isinstance(weighed, wire.Weighed):
            raise ProtocolViolation("a frozen branch answered what was not asked")
        return weighed.shared_out

    async def read(self, what: str, shape: type[Shape], arguments: object = None) -> Shape:
        """What it tells of its state, as ``shape``; ``Conflict`` when it cannot be read."""
        async with self._lock:
            told = await self._answered(wire.Read(what=what, arguments=msgspec.json.encode(arguments)))
        if not isinstance(told, wire.Told):
            raise ProtocolViolation(f"{self.title} answered what it was not asked")
        if told.error:
            raise Conflict(f"{self.title} could not be read: {told.error}")
        wire.check_json(told.data)
        try:
            return concealed(msgspec.json.decode(told.data, type=shape), self._disclosed)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolViolation(f"{self.title} told what it was not asked: {error}") from None

    async def _answered(
        self, order: wire.Weigh | wire.Read | wire.Touch | wire.Write, fds: list[int] | None = None
    ) -> Answer:
        """It runs until it has answered. It is lost when it does not in time: what it would be asked next, it might not
        understand either."""
        await self.wait()
        try:
            self._ask(order, fds)
            return await self._answers.next(ANSWER_SECONDS)
        except TimeoutError:
            self._lose(_silent())
            raise self._lost(_silent()) from None
        finally:
            self._rest()

    async def make_spare(self) -> None:
        """Have it leave a copy now, unless there is one. Raises what prevents it."""
        async with self._lock:
            if self._spare is not None:
                return
            await self.wait()
            spare = self._spare = Frozen(self._init, self._disclosed)
            spare.on_gone = self.drop_spare
            try:
                self._ask(wire.Spare(), [spare.guest_fd()])
                spare.let_go()
                async with asyncio.timeout(SPARE_SECONDS):
                    await spare.wait()
                if spare.pid == self.pid:
                    raise ProtocolViolation("a frozen branch named itself as its spare")
            except BaseException:
                if self._spare is spare:
                    self.drop_spare()
                raise
            finally:
                self._rest()

    async def touch(self, pages: Pages) -> None:
        """With a spare: have it copy and map these pages now, as far as it has not."""
        new = [number for number in pages.written if number not in self._copied]
        new = new[: written.COPIED - len(self._copied)]
        self._copied.update(new)
        await self._touch(new, _COPIED_AT_ONCE, writing=True)
        await self._touch(pages.mapped, _MAPPED_AT_ONCE, writing=False)

    async def _touch(self, numbers: list[int], most: int, *, writing: bool) -> None:
        for first in range(0, len(numbers), most):
            part = written.stretches(numbers[first : first + most])
            found = [(number * written.PAGE, count * written.PAGE) for number, count in part]
            async with self._lock:
                if self._spare is not None:
                    await self._answered(wire.Touch(stretches=found, writing=writing))

    def drop_spare(self) -> None:
        """End it, or what is being made of it."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.drop()

    def _succeed(self, spare: Frozen) -> None:
        """The spare is in the place of what waited here: nothing more is heard of that."""
        self._spare = None
        self._copied = set()
        self._link.close()
        self._link, self.pid, self.ready = spare._link, spare.pid, spare.ready
        self._answers = Answers()
        self._link.pass_on(self._on_frame, self._on_closed)
        spare._give_room_back()

    async def thaw(self, branch: Branch, *, reseed: bool = False, edits: dict[str, str] | None = None) -> str:
        """Have it become the live branch ``branch``, with a frozen copy in its place: its spare, or one that it leaves
        now. Returns the token that the branch's ``Ready`` must repeat."""
        async with self._lock:
            try:
                await self.wait()
                token = secrets.token_hex(16)
                self.thawing, spare = self.pid, self._spare
                order = wire.Thaw(
                    branch=branch.number,
                    token=token,
                    reseed=reseed,
                    edits=edits or {},
                    spared=spare is not None,
                )
                self._ask(order, branch.guest_fds())
                if spare is not None:
                    self._succeed(spare)
                else:
                    self.ready = asyncio.get_running_loop().create_future()
            except OSError as error:
                raise self._lost(f"it does not read what it is sent ({error})") from None
            finally:
                branch.let_go()
            return token

    async def bring(self, new: Branch, how: How, leaving: Future[Any] | None = None) -> None:
        """Until ``new`` has answered, with the token that only it was given, a copy stays frozen, and ``leaving`` is
        over; closes ``new`` and raises what prevents it."""
        with thawing.becoming(new):
            token = await self.thaw(new, reseed=how.reseed, edits=how.edits)
            async with asyncio.timeout(thawing.THAW_SECONDS):
                await asyncio.shield(new.ready)
                await self.wait()
            if new.token != token or new.pid != self.thawing:
                raise ProtocolViolation("the thawed branch did not repeat its token, or its pid")
            if leaving is not None:
                await asyncio.wait([leaving])
            if new.link.closed:  # of a branch that is none yet, nobody else hears that it has ended
                raise GuestLost(causes.ended("it ended when it came back"))

    async def write(self, sock: socket.socket) -> None:
        """Have it fork a writer of a checkpoint, which serves ``sock``."""
        async with self._lock:
            try:
                await self._answered(wire.Write(), [sock.fileno()])
            except OSError as error:
                raise self._lost(f"it does not read what it is sent ({error})") from None

    def drop(self) -> None:
        """End it, and its spare. One that has not said its pid yet sees its socket close."""
        self.drop_spare()
        self._guest_socket.close()
        self._end()
        self._give_room_back()
        if not self._link.closed:
            self._link.close()
            self._fail(GuestLost(Verdict(reason=Reason.EXIT, evidence="the snapshot was dropped")))

    def thawed(self) -> int:
        """It has become a live branch; returns its pid. Only the copy that it left is frozen."""
        pid, self.thawing = self.thawing, 0
        return pid

    async def goes_on(self) -> bool:
        """After it could not become a live branch: whether it waits all the same, or a copy that it left."""
        try:
            async with asyncio.timeout(_AGAIN_SECONDS):
                await self.wait()
        except (GuestLost, TimeoutError):
            return False
        if self.thawing not in (0, self.pid):
            self._init.drop(self.thawing)
        self.thawing = 0
        return True

    def _end(self) -> None:
        """Pid 1 spares none of it any longer."""
        for pid in {self.pid, self.thawing} - {0}:
            self._init.drop(pid)
        self.pid = self.thawing = 0

    def _give_room_back(self) -> None:
        """It is none of the guest's processes any longer, once."""
        if self._has_room:
            self._has_room = False
            self._init.meter.leave_room(-1)

    def _ask(self, frame: wire.Frame, fds: list[int] | None = None) -> None:
        self._link.send(frame, fds)
        self._init.wake(self.pid)

    def _rest(self) -> None:
        if self.pid and not self.gone:
            self._init.rest(self.pid)

    def _on_frame(self, frame: wire.FromFrozen) -> None:
        frame = concealed(frame, self._disclosed)
        if isinstance(frame, wire.Frozen):
            if self.ready.done():
                raise ProtocolViolation("a frozen branch said twice that it waits")
            if frame.pid != pid_within(self._link.sender):
                raise ProtocolViolation("a frozen branch named another process than its own")
            self.pid, self.external = frame.pid, frame.external
            self._rest()
            self.ready.set_result(None)
        else:
            self._answers.take(frame)

    def _on_closed(self, error: ProtocolViolation | None) -> None:
        self._lose(str(error or _ENDED))

    def _lose(self, evidence: str) -> None:
        """It comes back no more; its spare does, if there is one."""
        self._link.close()
        self._end()
        lost = self._lost(evidence)
        spare = self._spare
        if spare is not None and spare.pid:
            self._fail(lost)
            self._succeed(spare)
            return
        self.drop_spare()
        self._give_room_back()
        self._fail(lost)
        self.on_gone()

    def _fail(self, error: GuestLost) -> None:
        self._answers.fail(error)
        if self.ready.done() and not self.ready.exception():
            self.ready = asyncio.get_running_loop().create_future()
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # whoever waits for it gets it; nobody may

    def _lost(self, evidence: str) -> GuestLost:
        return GuestLost(Verdict(reason=Reason.PROTOCOL, evidence=f"{self.title} is lost: {evidence}"))


_ENDED = "its process ended"


def _silent() -> str:
    return f"it did not answer for {ANSWER_SECONDS:g} s"

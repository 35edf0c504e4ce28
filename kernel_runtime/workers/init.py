"""The host's side of a session's pid 1: its control socket, its pidfd, its meter."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import threading
from typing import TYPE_CHECKING, Protocol

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import GuestLost, WallUnavailable
from kernel_runtime.domain.level import Rung
from kernel_runtime.domain.verdict import Reason, Verdict
from kernel_runtime.guest.passing import receive_fds
from kernel_runtime.sandbox import landlock
from kernel_runtime.sandbox.rungs import ABSENT, ACCEPT
from kernel_runtime.workers import scratch, tree
from kernel_runtime.workers.link import Link
from kernel_runtime.workers.meter import Meter
from kernel_runtime.workers.overlay import Overlay

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.errors import ProtocolViolation
    from kernel_runtime.domain.limits import Limits
    from kernel_runtime.sandbox.plan import GuestPlan
    from kernel_runtime.workers.account import Account
    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.zygote import Zygote

BORN_SECONDS = 60.0


def _has_ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])


def _received(door: socket.socket) -> socket.socket | None:
    """The listening socket that came before pid 1 was born, if one did: no guest has run by then."""
    try:
        data, fds = receive_fds(door, 1, 1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    return socket.socket(fileno=fds[0]) if data and fds else None


class Owner(Protocol):
    """Whom pid 1's news concerns: the session."""

    def on_exited(self, number: int, status: int) -> None:
        """The branch ``number`` ended with this exit code."""

    def on_denied(self, frame: wire.Denied) -> None:
        """A system call of the guest was denied."""

    def on_scratch_full(self, verdict: Verdict) -> None:
        """It holds more in its directory on the host than it may."""

    def on_init_failed(self, error: str) -> None:
        """Pid 1 could not go on, after it was born."""

    def on_init_closed(self, error: ProtocolViolation | None) -> None:
        """Pid 1 is gone, and with it every process of the session."""


class Init:
    """A first process behind its walls. ``walls`` stand; ``missing`` do not (permissive)."""

    def __init__(self, zygote: Zygote, limits: Limits, owner: Owner, account: Account | None = None) -> None:
        self.zygote = zygote
        self.walls: list[str] = []
        self.missing: dict[str, str] = {}
        self.names_denied = False
        self.overlay: Overlay | None = None
        self.scratch = ""
        self._pids: dict[int, int] = {}
        #: Listens in its network, for a proxy to serve; whoever takes it closes it.
        self.listener: socket.socket | None = None
        self.has_egress = False
        self._spaces = True
        self._ends = 0
        self._ending: dict[int, asyncio.Future[None]] = {}
        self._holding: asyncio.Task[None] | None = None
        self.meter = Meter(limits, account)
        self._owner = owner
        self._pidfd = -1
        self._born: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        host, self._guest_socket = socket.socketpair()
        self._link = Link(host, wire.decode_from_init, self._on_frame, self._on_closed, takes_fds=True)

    async def spawn(self, plan: GuestPlan) -> None:
        """Have the zygote fork it, and wait until its walls stand. Closes itself on failure."""
        self.scratch, self._spaces = plan.scratch, plan.rung is Rung.NAMESPACES
        host_door, guest_door = socket.socketpair()
        try:
            with self._guest_socket as guest, guest_door:
                doors = [guest_door.fileno()] if plan.egress else []
                fds = [guest.fileno(), *doors, *self.meter.join_fds()]
                self._pidfd = await self.zygote.spawn(plan, fds)
            self.meter.started(self._pidfd)
            if self.scratch:
                self._watch_scratch(scratch.Watch(self.scratch, plan.disk, plan.inodes))
            await asyncio.wait_for(asyncio.shield(self._born), BORN_SECONDS)
            self.listener = _received(host_door)
            self.has_egress = self.listener is not None
        except BaseException:
            self.close()
            raise
        finally:
            host_door.close()

    def _watch_scratch(self, watch: scratch.Watch) -> None:
        self.meter.processes.writes_to(watch)

        async def hold() -> None:
            self._owner.on_scratch_full(await watch.exceeded())

        self._holding = asyncio.get_running_loop().create_task(hold())

    @property
    def rung(self) -> Rung:
        """How strong its walls could be here."""
        return Rung.NAMESPACES if self._spaces else Rung.LANDLOCK

    @property
    def places(self) -> dict[str, str]:
        """Environment of a guest that has no root of its own: where it may write."""
        return {"HOME": self.scratch, "TMPDIR": self.scratch} if self.scratch else {}

    @property
    def ended(self) -> bool:
        """Whether it is gone, be it that nothing has told us yet."""
        return self._pidfd < 0 or _has_ended(self._pidfd)

    @property
    def closed(self) -> bool:
        return self._link.closed

    def fork(self, branch: Branch, begin: wire.Begin, *, beside: bool = False) -> None:
        """Fork a live branch from the pristine one; its ends of the connections go along. ``beside``: the present
        one goes on for now, and even if there is no process to be had."""
        begin = msgspec.structs.replace(begin, branch=branch.number)
        frame = wire.Fork(branch=branch.number, begin=wire.pack(begin)[4:], beside=beside)
        self._link.send(frame, branch.guest_fds())
        branch.let_go()
        branch.pristine = begin
        if beside:
            return
        self.meter.mark()
        self.meter.release_cpu(False)
        self.meter.hurry(False)

    def signal(self, branch: Branch, number: int) -> None:
        """Send a signal to the branch's process group."""
        self._link.send(wire.Signal(branch=branch.number, number=number))

    def end_branches(self, spare: Branch | None = None, *, soon: bool = False) -> asyncio.Future[None]:
        """Kill every process of the session but pid 1, its frozen branches and the one to spare, at
        full speed; the future is done when they are gone (or pid 1 is). ``soon``: when they run nothing any more."""
        self.meter.release_cpu(True)
        self.meter.hurry(self._spaces)  # its end is one signal there, not a search
        spared = [spare.number] if spare is not None else []
        return self._order(lambda number: wire.End(number=number, spare=spared, soon=soon))

    def _order(self, make: Callable[[int], wire.Frame]) -> asyncio.Future[None]:
        """What has a number; the future is done when it is carried out (or pid 1 is gone)."""
        self._ends += 1
        done = self._ending[self._ends] = asyncio.get_running_loop().create_future()
        self._link.send(make(self._ends))
        if self.closed:
            self._all_ended()
        return done

    def _all_ended(self) -> None:
        ending, self._ending = self._ending, {}
        for done in ending.values():
            if not done.done():
                done.set_result(None)

    def rest(self, pid: int) -> None:
        """Stop a frozen branch, and spare it from now on."""
        self._link.send(wire.Rest(pid=pid))

    def wake(self, pid: int) -> None:
        """Let a frozen branch read what it is ordered."""
        self._link.send(wire.Wake(pid=pid))

    def drop(self, pid: int) -> None:
        """End a frozen branch."""
        self._link.send(wire.Drop(pid=pid))

    def adopt(self, branch: Branch, pid: int) -> None:
        """A frozen branch was thawed: it is this live one. Of ``pid`` 0, which it forked, pid 1 knows."""
        if pid:
            self._pids[branch.number] = pid
            self._link.send(wire.Adopt(branch=branch.number, pid=pid))
        self.meter.mark()

    def pid_of(self, branch: Branch) -> int:
        """Within the session, as pid 1 has told it; 0 while it has not."""
        return self._pids.get(branch.number, 0)

    def hold_back(self) -> None:
        """What had to end has ended: the CPU share holds again, at the usual weight."""
        self.meter.release_cpu(False)
        self.meter.hurry(False)

    def pause(self) -> asyncio.Future[None]:
        """Stop every process of the session but pid 1; the future is done when they are."""
        return self._order(lambda number: wire.Pause(paused=True, number=number))

    def seclude(self, *, over: bool = False) -> asyncio.Future[None]:
        """As ``pause``, until ``over``: what has come since is ended then, and the others go on."""
        return self._order(lambda number: wire.Seclude(number=number, over=over))

    def resume(self) -> None:
        """Let all but the frozen ones go on."""
        self._link.send(wire.Pause(paused=False))

    def catch_up(self) -> None:
        """Take what pid 1 has said by now: it tells of a denied call before the call returns."""
        self._link.drain()

    def kill(self) -> None:
        """Kill pid 1; the kernel kills whatever is left in its pid namespace (if it has one)."""
        if self._pidfd >= 0:
            self.meter.hurry(self._spaces)
            if not self._spaces and self.meter.init_pid and not _has_ended(self._pidfd):
                tree.end_below(self.meter.init_pid)
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended already

    def close(self) -> None:
        """End it all; nobody is told."""
        self.kill()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self._guest_socket.close()
        if self.listener is not None:
            self.listener.close()
        self._link.close()
        self._all_ended()
        self.meter.close()
        if self.overlay is not None:
            self.overlay.close()
        if self._holding is not None:
            self._holding.cancel()
        if self.scratch:
            threading.Thread(target=scratch.remove, args=(self.scratch,), name="scratch-removal").start()
            self.scratch = ""

    def _on_frame(self, frame: wire.FromInit) -> None:
        if isinstance(frame, wire.Born):
            self.walls, self.missing = frame.walls, frame.missing
            self.names_denied = frame.names_denied
            self._take_layer(frame)
            if not self._born.done():
                self._born.set_result(None)
        elif isinstance(frame, wire.Failed):
            if self._born.done():
                self._owner.on_init_failed(frame.error)
            else:
                fix = frame.fix
                if self._spaces and frame.wall in ABSENT and landlock.abi() >= landlock.SCOPES_SINCE:
                    fix = f"{fix}. {ACCEPT}"
                self._born.set_exception(WallUnavailable(frame.wall, frame.error, fix))
        elif isinstance(frame, wire.Forked):
            self._pids[frame.branch] = frame.pid
        elif isinstance(frame, wire.Exited):
            self._pids.pop(frame.branch, None)
            self._owner.on_exited(frame.branch, frame.status)
        elif isinstance(frame, wire.Ended):
            ended = self._ending.pop(frame.number, None)
            if ended is not None and not ended.done():
                ended.set_result(None)
        elif isinstance(frame, wire.Denied):
            self._owner.on_denied(frame)

    def _take_layer(self, born: wire.Born) -> None:
        """Said before any code of the user's runs, and once: descriptors that come later are nobody's."""
        fds = self._link.fds
        if born.layer and len(fds) == 2 and self.overlay is None:
            self.overlay = Overlay(fds.popleft(), fds.popleft())
        self._link.take_no_fds()

    def _on_closed(self, error: ProtocolViolation | None) -> None:
        self._all_ended()
        if self._born.done():
            if not self._born.exception():  # else whoever waits for its birth has been told
                self._owner.on_init_closed(error)
        else:
            evidence = str(error or "its first process ended while starting")
            lost = GuestLost(Verdict(reason=Reason.PROTOCOL, evidence=evidence))
            self._born.set_exception(self.zygote.lost or lost)

"""Pid 1 of a session: the pristine branch.

It stands behind all walls, has the shell prepared, and never runs user code. It forks the
live branch, passes signals on to it, reaps whatever ends, and reports. User code cannot end
it: signals without a handler do not reach a pid 1 from inside its namespace, and it cannot be
traced, being not dumpable.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import select
import signal
import socket
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, NoReturn

import msgspec

from kernel_runtime import wire
from kernel_runtime.guest import headroom, namespace
from kernel_runtime.guest.scores import OOM_SCORE_LIVE, set_oom_score

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.guest.channel import Channel
    from kernel_runtime.guest.denials import Denials
    from kernel_runtime.guest.shell import Shell

_BRANCH_FDS = 3
#: How long killed processes may take to be gone, before there is none to be had.
_ROOM_SECONDS = 5.0
#: Ends of processes that were no branch then, and may turn out to be one that was just thawed.
_REMEMBERED = 64


def serve(
    control: Channel,
    born: wire.Born,
    set_dumpable: Callable[[bool], None],
    remove_ipc: Callable[[], None],
    denials: Denials | None = None,
    kill_others: Callable[[set[int]], None] | None = None,
    set_apart: Callable[[], None] | None = None,
    layers: list[int] | None = None,
) -> NoReturn:
    """Report the walls (``born``), prepare the shell, then serve the host until it hangs up.

    From here on pid 1 makes no call that the filter denies: ``denials``, which would have to
    answer it, is served by itself.

    ``set_dumpable``, ``remove_ipc`` (System V objects of ended branches), ``kill_others`` (every
    process of the session but this one, where no pid namespace bounds a signal to all) and
    ``set_apart`` (what keeps a live branch from signalling this one there) come from outside,
    because a guest imports none of the host's rooms. ``layers``: what ``born`` says lies beside it.
    """
    status = 1
    kill_others = kill_others or namespace.end
    try:
        set_dumpable(False)
        _say_born(control, born, layers or [])
        from kernel_runtime.guest import shell  # IPython: imported by the session, not by the bare zygote

        init = Init(control, shell.prepare(), set_dumpable, remove_ipc, denials, kill_others)
        init.set_apart = set_apart or init.set_apart
        init.run()
        status = 0
    except BaseException as error:  # noqa: BLE001 — the last words of pid 1: the host shows them
        control.send(wire.Failed(wall="guest", error=f"{type(error).__name__}: {error}"))
    finally:
        kill_others(set())
        os._exit(status)


def _say_born(control: Channel, born: wire.Born, layers: list[int]) -> None:
    """How many descriptors are on their way is counted over all guests of a user: it can do without."""
    try:
        control.send(born, layers)
    except OSError as error:
        if error.errno != errno.ETOOMANYREFS:
            raise
        control.send(msgspec.structs.replace(born, layer=False))
    for fd in layers:
        os.close(fd)


class Init:
    """The loop of pid 1: the host's frames and the children's ends."""

    def __init__(
        self,
        control: Channel,
        shell: Shell,
        set_dumpable: Callable[[bool], None],
        remove_ipc: Callable[[], None],
        denials: Denials | None = None,
        kill_others: Callable[[set[int]], None] = namespace.end,
    ) -> None:
        self.set_apart: Callable[[], None] = lambda: None
        self._denials = denials
        self._kill_others = kill_others
        self._set_dumpable = set_dumpable
        self._remove_ipc = remove_ipc
        self._control = control
        self._shell = shell
        self._branches: dict[int, int] = {}  # pid → branch number
        self._frozen: set[int] = set()
        self._known: dict[int, namespace.Other] = {}
        self._awake: set[int] = set()  # those of them that carry out an order
        self._strangers: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)  # pid, exit code
        self._wakeup, self._wakeup_write = _wakeup_pipe()
        gc.collect()
        gc.freeze()

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        if self._denials is not None:
            poll.register(self._denials.fileno(), select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            # The host first: it may be telling which processes are to be spared.
            if self._control.fileno() in ready and not self._serve_frame():
                return
            if self._wakeup in ready:
                os.read(self._wakeup, 512)
                self._reap()
            # One at a time: a flood of denied calls keeps neither the host nor the reaper waiting.
            if self._denials is not None and self._denials.fileno() in ready:
                self._denials.serve(self._tell)

    def _tell(self, frame: wire.Denied) -> None:
        """Not worth waiting for: a host that does not read misses it."""
        if select.select([], [self._control.fileno()], [], 0)[1]:
            self._control.send(frame)

    def _serve_frame(self) -> bool:
        frame = self._control.receive()
        self._perform(frame)
        while self._control.has_frames:
            self._perform(self._control.receive())
        return frame is not None

    def _perform(self, frame: wire.ToInit | None) -> None:
        if isinstance(frame, wire.Fork):
            self._fork(frame)
        elif isinstance(frame, wire.Signal):
            self._signal(frame)
        elif isinstance(frame, wire.End):
            self._end(frame)
        elif isinstance(frame, wire.Rest):
            self._rest(frame.pid)
        elif isinstance(frame, wire.Wake):
            self._awake.add(frame.pid)
            namespace.send(os.kill, frame.pid, signal.SIGCONT)
        elif isinstance(frame, wire.Drop):
            if frame.pid in self._frozen:
                self._forget(frame.pid)
                namespace.send(os.kill, frame.pid, signal.SIGKILL)
        elif isinstance(frame, wire.Adopt):
            self._adopt(frame)
        elif isinstance(frame, wire.Pause):
            self._pause(frame)
        elif isinstance(frame, wire.Seclude):
            self._seclude(frame)

    def _fork(self, frame: wire.Fork) -> None:
        fds = self._control.take_fds(_BRANCH_FDS)
        if self._denials is not None:
            self._denials.forget()
        pid = self._forked(beside=frame.beside)
        if pid == 0:
            self._become_live(frame, fds)
        for fd in fds:
            os.close(fd)
        if pid is not None:
            self._branches[pid] = frame.branch
            self._control.send(wire.Forked(branch=frame.branch, pid=pid))

    def _forked(self, *, beside: bool) -> int | None:
        """None: there was no process to be had, and another branch goes on."""
        try:
            return self._fork_with_patience()
        except OSError:
            if not beside:
                raise
            return None

    def _fork_with_patience(self) -> int:
        """What has just been killed counts as a process until it is buried: there is room then."""
        deadline = time.monotonic() + _ROOM_SECONDS
        while True:
            try:
                return os.fork()
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
            self._reap()
            time.sleep(0.002)

    def _become_live(self, frame: wire.Fork, fds: list[int]) -> NoReturn:
        try:
            self._forget_init()
            if not frame.beside:  # else it hides from what is left of the other one
                self._set_dumpable(True)  # so that the host can measure it
            self.set_apart()
            sock_fd, out, err = fds
            _set_stdio(out, err)
            begin = wire.decode(wire.decode_to_branch, frame.begin)
            _set_live_limits(begin)
            from kernel_runtime.guest import loop

            loop.live(
                self._shell,
                socket.socket(fileno=sock_fd),
                begin,
                lambda hidden: self._set_dumpable(not hidden),
                hidden=frame.beside,
            )
        except BaseException:  # noqa: BLE001 — nothing may ever return into the loop of pid 1
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(wire.DAMAGED_STATUS)
        raise AssertionError

    def _forget_init(self) -> None:
        """Drop what belongs to pid 1 alone: its control socket, its handlers, its listener."""
        if self._denials is not None:
            self._denials.close()
            self._shell.kernel.slate = self._denials.slate
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        os.close(self._wakeup)
        os.close(self._wakeup_write)
        os.setsid()

    def _signal(self, frame: wire.Signal) -> None:
        """To the branch's process group, so that what it runs in the foreground hears it, too."""
        for pid, branch in self._branches.items():
            if branch == frame.branch:
                namespace.send(os.killpg, pid, frame.number)
                if not _leads_its_group(pid):
                    namespace.send(os.kill, pid, frame.number)

    def _rest(self, pid: int) -> None:
        """One that leads no session is no frozen branch, but what the kernel could let go on when another one ends."""
        if not namespace.leads_a_session(pid):
            self._forget(pid)
            namespace.send(os.kill, pid, signal.SIGKILL)
            return
        self._frozen.add(pid)
        self._awake.discard(pid)
        self._strangers = deque((each for each in self._strangers if each[0] != pid), _REMEMBERED)
        namespace.send(os.kill, pid, signal.SIGSTOP)

    def _forget(self, pid: int) -> None:
        self._frozen.discard(pid)
        self._awake.discard(pid)

    def _adopt(self, frame: wire.Adopt) -> None:
        """A frozen branch was thawed, and may have ended since."""
        self._forget(frame.pid)
        for pid, status in self._strangers:
            if pid == frame.pid:
                self._control.send(wire.Exited(branch=frame.branch, status=status))
                return
        self._branches[frame.pid] = frame.branch

    def _pause(self, frame: wire.Pause) -> None:
        """The host hears when all are stopped, and lets nothing go on before: a child that is just being
        forked inherits a stop, and would keep it if it were taken back from its parent meanwhile."""
        if frame.paused:
            if os.getpid() == 1:
                namespace.stop()
            self._control.send(wire.Ended(number=frame.number))
        elif os.getpid() == 1:
            self._go_on()

    def _go_on(self) -> None:
        for pid in namespace.others().keys() - (self._frozen - self._awake):
            namespace.send(os.kill, pid, signal.SIGCONT)

    def _seclude(self, frame: wire.Seclude) -> None:
        """While a copy runs that a hostile cell may have made something of: all else stands still, and what the copy
        leaves behind is ended."""
        if frame.over:
            namespace.end_since(self._known, self._branches.keys() | self._frozen)
            self._go_on()
        else:
            namespace.stop()
            self._known = namespace.others()
        self._control.send(wire.Ended(number=frame.number))

    def _end(self, frame: wire.End) -> None:
        """Every process but this one, the frozen branches and those to spare."""
        live = {pid for pid, branch in self._branches.items() if branch in frame.spare}
        if frame.soon:
            namespace.end(live | self._frozen, soon=True)
        else:
            self._kill_others(live | self._frozen)
        for pid in self._branches.keys() - live:
            namespace.send(os.kill, pid, signal.SIGKILL)  # should it not have been found
            self._bury(pid, block=not frame.soon)
        self._remove_ipc()
        for pid in live | self._awake:
            namespace.send(os.kill, pid, signal.SIGCONT)
        self._control.send(wire.Ended(number=frame.number))

    def _bury(self, pid: int, *, block: bool) -> None:
        """A branch that was killed. One that another process has for its child, which may be a frozen branch, is
        never heard of again."""
        try:
            buried, status = os.waitpid(pid, 0 if block else os.WNOHANG)
        except ChildProcessError:
            self._report(pid, -signal.SIGKILL)
            return
        if buried:
            self._forget(pid)
            self._report(pid, os.waitstatus_to_exitcode(status))

    def _reap(self) -> None:
        """Bury what has ended. What an ended branch has started is the host's to end (``End``)."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._branches.clear()
                return
            if pid == 0:
                return
            self._forget(pid)
            self._report(pid, os.waitstatus_to_exitcode(status))

    def _report(self, pid: int, code: int) -> None:
        """The host is told of a live branch's end."""
        branch = self._branches.pop(pid, None)
        if branch is None:
            self._strangers.append((pid, code))
        else:
            self._control.send(wire.Exited(branch=branch, status=code))


def _wakeup_pipe() -> tuple[int, int]:
    """A pipe that SIGCHLD writes to; all other signals keep the protection of pid 1."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read, write


def _leads_its_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def _set_stdio(out: int, err: int) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target, inheritable=True)
        os.close(source)


def _set_live_limits(begin: wire.Begin) -> None:
    """Die before pid 1 when memory runs out; get a MemoryError before that, where possible."""
    set_oom_score(OOM_SCORE_LIVE)
    if begin.limits.memory is not None:
        data, present = _held_bytes()
        headroom.limit_data(data, begin.limits.memory, present if begin.summed else 0)


def _held_bytes() -> tuple[int, int]:
    """Private writable memory of this process now, in bytes: all of it (what RLIMIT_DATA counts), and what is present."""
    try:
        file = os.open("/proc/self/statm", os.O_RDONLY)
        fields = [int(field) * resource.getpagesize() for field in os.read(file, 256).split()]
        os.close(file)
        return fields[5], fields[1] - fields[2]
    except OSError:  # without a /proc of its own, a guest has none
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return most, most

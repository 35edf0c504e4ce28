"""Branches of a running process: a frozen copy is forked off, and one day becomes the live branch.

A copy is forked between two callbacks of the loop. It waits at a socket of its own and holds
nothing else of the original's. To be thawed it leaves a frozen copy behind in the same way and
goes on itself: a snapshot can be used any number of times.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gc
import os
import random
import select
import signal
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from kernel_runtime import wire
from kernel_runtime.guest import descriptors, files, threads
from kernel_runtime.guest.channel import Channel
from kernel_runtime.guest.connection import lift
from kernel_runtime.guest.mappings import Mappings
from kernel_runtime.guest.scores import OOM_SCORE_FROZEN, OOM_SCORE_LIVE, set_oom_score
from kernel_runtime.guest.waiting import Copies, children
from kernel_runtime.sdk import branches as hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kernel_runtime.guest.connection import Connection
    from kernel_runtime.guest.descriptors import Inventory
    from kernel_runtime.guest.mappings import Mapping
    from kernel_runtime.guest.mending import Mending
    from kernel_runtime.guest.reading import Reader

_MAX_NAMES, _MAX_NAME = 64, 200
#: Collecting what was frozen takes at most this share of the time.
_COLLECTING = 1 / 300
#: About what one object takes then, in seconds.
_COLLECTED_EACH = 0.4e-6
_FDS = 3
_OLDEST = 2
#: How long the original waits for the copy to make shared memory its own.
_PRIVATE_SECONDS = 10.0


class Moment(NamedTuple):
    """What a copy must know of the moment it was made at."""

    stock: Inventory
    shared: list[Mapping]
    children: dict[int, str]
    clock: float
    dated: float
    timer: tuple[float, float]


class Restored(NamedTuple):
    """What a thawed branch has to tell: seconds frozen, what it does not have, files that changed."""

    order: wire.Thaw
    frozen: float
    external: list[str]
    changed: list[str]


class Branching:
    """One process's means to branch. ``hide``: keep others of the same user from looking into it;
    ``active`` while it forks a branch of itself (a fork of user code is none); ``reader`` answers what a
    copy is asked about its state, ``write`` is what a writer of checkpoints does."""

    def __init__(
        self,
        loop: Any,
        connection: Connection,
        mending: Mending,
        hide: Callable[[bool], None],
        reader: Reader,
    ) -> None:
        self.active = False
        self.write: Callable[[Channel], None] = lambda _: None
        self.refusal = ""
        self._loop = loop
        self._connection = connection
        self._mending = mending
        self._hide = hide
        self._reader = reader
        self._mappings = Mappings()
        self._copies = Copies()
        self._copies.install()
        self._pipe: list[int] = []
        self._collected = time.monotonic()
        self._collecting = 0.05
        gc.collect = _collector(gc.collect)  # type: ignore[assignment] # a stand-in

    # -- in the live branch ----------------------------------------------------------------------

    def freeze(self, order: wire.Freeze, fd: int) -> Restored | None:
        """Make a frozen copy that waits at ``fd``, and answer. Returns None, and in the copy, when
        it is thawed one day, what has happened: then this process is the live branch.
        """
        begun = time.perf_counter(), time.process_time()
        refused: list[str] = []
        try:
            fd = _lifted(fd)
            for hook in list(hooks.before):
                hook()
            moment = self._moment(fd)
            refused = _refusal(order, moment)
            if not refused and self._copy():
                return self._be_frozen(moment, fd)
            said: dict[str, Any] = {"external": refused} if refused else {"threads": self._beside(moment)}
        except Exception as error:  # noqa: BLE001 - a hook of user code, or no process to be had
            said = {"error": f"{type(error).__name__}: {error}"[: wire.MAX_SAID]}
        os.close(fd)
        self._close_pipe()
        for hook in list(hooks.after):
            _run_hook(hook)
        self._answer(order, begun, **said)
        return None

    def _beside(self, moment: Moment) -> list[str]:
        """The copy is made: the threads that it misses, by name."""
        names = _few(threads.unsafe())
        if moment.shared:
            self._wait_for_copy()
        return names

    def _wait_for_copy(self) -> None:
        """Until it has made shared memory its own: it closes its end of the pipe."""
        os.close(self._pipe.pop())
        select.select(self._pipe, [], [], _PRIVATE_SECONDS)

    def _close_pipe(self) -> None:
        while self._pipe:
            os.close(self._pipe.pop())

    def refuse(self, order: wire.Freeze, reason: str) -> None:
        """No copy now."""
        self._answer(order, (time.perf_counter(), time.process_time()), error=reason)

    def _answer(self, order: wire.Freeze, begun: tuple[float, float], **more: Any) -> None:
        """``refusal`` is kept: what stood in the way of this copy, for people."""
        self.refusal = more.get("error") or ", ".join(more.get("external") or more.get("threads") or ())
        pause, spent = time.perf_counter() - begun[0], time.process_time() - begun[1]
        self._connection.send(wire.Froze(parent=order.id, pause=pause, spent=spent, **more))

    def _moment(self, fd: int) -> Moment:
        threads.stop_idle(self._loop)
        own = self._own()
        shared = self._mappings.shared()
        if shared:
            self._pipe = list(os.pipe())
            own |= set(self._pipe)
        stock = descriptors.take_stock(own | {fd})
        timer = signal.getitimer(signal.ITIMER_REAL)
        return Moment(stock, shared, self._children(), time.monotonic(), files.now(), timer)

    def _children(self) -> dict[int, str]:
        """Processes that user code has started here: pid → name."""
        self._copies.bury()
        return {pid: f"child process {pid}{_name_of(pid)}" for pid in children() if pid not in self._copies}

    def _own(self) -> frozenset[int]:
        loop = self._loop
        ends = (loop._ssock.fileno(), loop._csock.fileno())
        return frozenset((0, 1, 2, self._connection.fileno(), *self._mending.copies, *ends))

    def _copy(self) -> bool:
        """True in the copy."""
        self._tend_garbage()
        return self._fork()

    def _fork(self) -> bool:
        """Python's own generator seeds itself anew in a child: a copy goes on with the same numbers."""
        state, group = random.getstate(), os.getpgrp()
        self.active = True
        try:
            pid = os.fork()
            if pid:
                self._copies.add(pid)
                with contextlib.suppress(OSError):  # it has ended by now
                    os.setpgid(pid, pid)  # what the next cell does to its group does not reach the copy
                return False
            _lead_a_session(group)
            random.setstate(state)
            self._copies.clear()
            return True
        finally:
            self.active = False

    def _tend_garbage(self) -> None:
        """What is frozen is not collected any more, so that collecting does not touch, and thereby
        copy, all that the branches share; from time to time it is, or cycles would stay for ever."""
        due = _COLLECTING * (time.monotonic() - self._collected)
        if self._collecting < due:  # what it takes is not known before the first time, nor after a restore
            self._collecting = max(self._collecting, gc.get_freeze_count() * _COLLECTED_EACH)
        if self._collecting < due:
            begun = time.monotonic()
            gc.unfreeze()
            gc.collect()
            self._collected = time.monotonic()
            self._collecting = self._collected - begun
        gc.freeze()

    # -- in the frozen copy ------------------------------------------------------------------------

    def _be_frozen(self, moment: Moment, fd: int) -> Restored:
        """Until it is thawed; ends with its process otherwise."""
        try:
            self._connection.silent = True  # whatever user code does in a copy's children
            lost = descriptors.detach(moment.stock, self._own() - {0})
            lost += _make_private(moment.shared)
            self._close_pipe()
            set_oom_score(OOM_SCORE_FROZEN)
            self._hide(True)
            channel = Channel(socket.socket(fileno=fd), wire.decode_to_frozen)
            external = _few([*lost, *moment.children.values()])
            order, fds = self._wait(channel, moment, external)
            return self._come_back(order, fds, moment, external)
        except BaseException:  # noqa: BLE001 - a copy that cannot be one must not go on as if it were live
            with contextlib.suppress(Exception):
                traceback.print_exc()
            os._exit(wire.DAMAGED_STATUS)

    def _wait(self, channel: Channel, moment: Moment, external: list[str]) -> tuple[wire.Thaw, list[int]]:
        channel.send(wire.Frozen(pid=os.getpid(), external=external))
        while (frame := channel.receive()) is not None:
            if isinstance(frame, wire.Weigh):
                channel.send(_weigh())
            elif isinstance(frame, wire.Write):
                self._fork_writer(channel)
            elif isinstance(frame, wire.Read):
                channel.send(self._reader.answer(frame, moment.dated))
            elif isinstance(frame, wire.Thaw):
                fds = channel.take_fds(_FDS)
                is_copy, left_one = self._fork_again()
                if left_one:
                    channel.close()
                    return frame, fds
                for fd in fds:
                    os.close(fd)
                if is_copy:
                    descriptors.reopen(moment.stock)
                channel.send(wire.Frozen(pid=os.getpid(), external=external))
        os._exit(0)  # the host has dropped it

    def _fork_writer(self, channel: Channel) -> None:
        """A child that writes a checkpoint: what user code does to it while it is pickled, it does
        to nobody else. What it prints goes nowhere."""
        fd = channel.take_fds(1)[0]
        self._copies.bury()
        pid = os.fork()
        if pid:
            self._copies.add(pid)
            os.close(fd)
            return
        try:
            channel.close()
            null = os.open("/dev/null", os.O_RDWR)
            for target in (0, 1, 2):
                os.dup2(null, target)
            self.write(Channel(socket.socket(fileno=fd), wire.decode_to_writer))
        finally:
            os._exit(0)  # the host sees whether all has been said

    def _fork_again(self) -> tuple[bool, bool]:
        """Whether this is the copy, and whether it left one: with no process to be had it waits on."""
        try:
            if self._fork():
                return True, False
        except OSError:
            return False, False
        return False, True

    def _let_go_of(self, fds: Iterable[int]) -> None:
        """What waits in the loop for a descriptor that is no more is called once, and meets the error;
        the loop would find it ready for ever."""
        selector = self._loop._selector
        for fd in fds:
            key = selector.get_map().get(fd)
            if key is not None and _is_dead(fd):
                for handle in filter(None, key.data):
                    self._loop._add_callback(handle)
                selector.unregister(fd)

    def _come_back(self, order: wire.Thaw, fds: list[int], moment: Moment, external: list[str]) -> Restored:
        """Give the process what a live branch has."""
        self._hide(False)
        set_oom_score(OOM_SCORE_LIVE)
        sock, out, err = fds
        descriptors.replace(self._connection.fileno(), sock)
        descriptors.replace(1, out)
        descriptors.replace(2, err)
        self._mending.renew_copies()
        for end, new in zip((self._loop._ssock, self._loop._csock), socket.socketpair(), strict=True):
            new.setblocking(False)
            descriptors.replace(end.fileno(), new.detach())
        self._connection.silent = False
        self._connection.renew()
        frozen = time.monotonic() - moment.clock
        self._loop.behind += frozen
        self._let_go_of(moment.stock.others)
        _bury_children(moment.children)
        signal.setitimer(signal.ITIMER_REAL, *moment.timer)  # no fork inherits it
        if order.reseed:
            _reseed()
        return Restored(order, frozen, external, descriptors.changed(moment.stock))


def _is_dead(fd: int) -> bool:
    """Whether nothing but a place holder is left at this number."""
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH)
    except OSError:
        return False


def _collector(collect: Callable[[int], int]) -> Callable[[int], int]:
    """``gc.collect`` as user code knows it: what is frozen for the sake of the copies is collected, too."""

    @functools.wraps(collect)
    def collect_all(generation: int = 2) -> int:
        if generation == _OLDEST:
            gc.unfreeze()
        return collect(generation)

    return collect_all


def run_restored_hooks() -> None:
    """The notebook's own, when a thawed branch may act."""
    for hook in list(hooks.restored):
        _run_hook(hook)


def _run_hook(hook: Callable[[], object]) -> None:
    try:
        hook()
    except Exception:  # noqa: BLE001 - user code: its error is shown and changes nothing
        traceback.print_exc()


def _lead_a_session(group: int) -> None:
    """One of its own, or the kernel would hang it up when the original ends: it does so with what is
    stopped. The leader of a group, which the original may have made of it, cannot: it goes back first.
    Where the original has ended already, with its group, there is nothing left that hangs up."""
    try:
        os.setsid()
    except PermissionError:
        try:
            os.setpgid(0, group)
        except PermissionError:
            return
        os.setsid()


def _lifted(fd: int) -> int:
    high = lift(fd)
    os.close(fd)
    return high


def _refusal(order: wire.Freeze, moment: Moment) -> list[str]:
    """What stands in the way of a copy at all, or (if asked to refuse) cannot be in it."""
    refused = [str(mapping) for mapping in moment.shared if not mapping.copied]
    if order.refuse:
        refused += [*moment.stock.others.values(), *moment.children.values()]
    return _few(refused)


def _few(names: Sequence[str]) -> list[str]:
    return [name[:_MAX_NAME] for name in names[:_MAX_NAMES]]


def _name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return f" ({file.read().strip()})"
    except OSError:
        return ""


def _bury_children(gone: dict[int, str]) -> None:
    """They were the original's and ended with it: whoever waits for one is told that it was killed."""
    if not gone or "subprocess" not in sys.modules:
        return
    popen = sys.modules["subprocess"].Popen
    gc.unfreeze()  # what is frozen is not among the collector's objects
    for thing in gc.get_objects():
        if isinstance(thing, popen) and thing.returncode is None and thing.pid in gone:
            thing.returncode = -9
    gc.freeze()


def _make_private(shared: list[Mapping]) -> list[str]:
    """In the copy: shared memory becomes its own, with the bytes it has now."""
    lost = []
    for mapping in shared:
        from kernel_runtime.guest import native

        try:
            native.make_private(mapping.start, mapping.size)
        except OSError as error:
            lost.append(f"{mapping} ({error.strerror})")
    return lost


def _weigh() -> wire.Weighed:
    amounts = {}
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("Pss", "Private_Dirty", "Private_Clean"):
                amounts[name] = int(rest.split()[0]) * 1024
    private = amounts.get("Private_Dirty", 0) + amounts.get("Private_Clean", 0)
    return wire.Weighed(shared_out=amounts.get("Pss", 0), private=private)


def _reseed() -> None:
    random.seed()
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()

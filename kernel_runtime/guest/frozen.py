"""A frozen copy of a running process: it waits at a socket of its own, and one day becomes the live branch.

To be thawed it leaves a frozen copy behind and goes on itself: a snapshot can be used any number of times. It may
have left one in advance, a spare.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import signal
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from kernel_runtime import wire
from kernel_runtime.guest import descriptors
from kernel_runtime.guest.channel import Channel
from kernel_runtime.guest.scores import OOM_SCORE_FROZEN, OOM_SCORE_LIVE, set_oom_score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kernel_runtime.guest.connection import Connection
    from kernel_runtime.guest.descriptors import Inventory
    from kernel_runtime.guest.forking import Forking
    from kernel_runtime.guest.garbage import Garbage
    from kernel_runtime.guest.mappings import Mapping
    from kernel_runtime.guest.mending import Mending
    from kernel_runtime.guest.reading import Reader

_MAX_NAMES, _MAX_NAME = 64, 200
_FDS = 3


class Moment(NamedTuple):
    """What a copy must know of the moment it was made at. ``own``: the descriptors that are the guest's, but for stdin."""

    stock: Inventory
    shared: list[Mapping]
    children: dict[int, str]
    clock: float
    dated: float
    timer: tuple[float, float]
    own: frozenset[int]


class Restored(NamedTuple):
    """What a thawed branch has to tell: seconds frozen, what it does not have, files that changed."""

    order: wire.Thaw
    frozen: float
    external: list[str]
    changed: list[str]


class FrozenCopy:
    """What a process does while it is one. ``hide``: keep others of the same user from looking into it; ``reader``
    answers what it is asked about its state; ``write`` is what a writer of checkpoints does."""

    def __init__(
        self,
        loop: Any,
        connection: Connection,
        mending: Mending,
        hide: Callable[[bool], None],
        reader: Reader,
        forking: Forking,
        garbage: Garbage,
    ) -> None:
        self.write: Callable[[Channel], None] = lambda _: None
        self._loop = loop
        self._connection = connection
        self._mending = mending
        self._hide = hide
        self._reader = reader
        self._forking = forking
        self._garbage = garbage

    def hide(self) -> None:
        """Nobody may look into this process, nor into its copies: before there is one, and until it is the only branch."""
        set_oom_score(OOM_SCORE_FROZEN)
        self._hide(True)

    def show(self) -> None:
        """It is the live branch, and alone."""
        self._hide(False)
        set_oom_score(OOM_SCORE_LIVE)

    def own(self) -> frozenset[int]:
        """Descriptors that are the guest's, not the notebook's."""
        loop = self._loop
        ends = (loop._ssock.fileno(), loop._csock.fileno())
        return frozenset((0, 1, 2, self._connection.fileno(), *self._mending.copies, *ends))

    def begin(self, moment: Moment, channel: Channel, released: Callable[[], None]) -> list[str]:
        """What a copy does at once; returns what it does not have, when it is asked for something. ``released``: shared
        memory is its own now."""
        lost = descriptors.detach(moment.stock, moment.own)
        if moment.shared:
            lost += _make_private(moment.shared)
            released()
        return _rest(channel, few([*lost, *moment.children.values()]))

    def wait(self, moment: Moment, channel: Channel, external: list[str]) -> Restored:
        """Go on at ``channel``, until it is thawed; ends with its process otherwise."""
        try:
            self._connection.silent = True  # whatever user code does in a copy's children
            order, fds = self._wait(channel, moment, external)
            return self._come_back(order, fds, moment, external)
        except BaseException:  # noqa: BLE001 - what cannot be a copy must not go on as if it were live
            with contextlib.suppress(Exception):
                traceback.print_exc()
            os._exit(wire.DAMAGED_STATUS)

    def _wait(self, channel: Channel, moment: Moment, external: list[str]) -> tuple[wire.Thaw, list[int]]:
        while (frame := channel.receive()) is not None:
            if isinstance(frame, wire.Weigh):
                channel.send(_weigh())
            elif isinstance(frame, wire.Write):
                self._fork_writer(channel)
            elif isinstance(frame, wire.Read):
                channel.send(self._reader.answer(frame, moment.dated))
            elif isinstance(frame, wire.Spare):
                channel = self._leave_spare(channel, moment, external)
            elif isinstance(frame, wire.Touch):
                channel.send(_touch(frame))
            elif isinstance(frame, wire.Thaw):
                fds = channel.take_fds(_FDS)
                let_go = functools.partial(_close, fds)
                left = frame.spared or self._leave_copy(let_go, channel, moment, external)
                if left:
                    channel.close()
                    return frame, fds
                if left is not None:
                    let_go()
                    channel.send(wire.Frozen(pid=os.getpid(), external=external))
        os._exit(0)  # the host has dropped it

    def _fork_writer(self, channel: Channel) -> None:
        """A child that writes a checkpoint: what user code does to it while it is pickled, it does
        to nobody else, and no longer than this copy is kept for it. What it prints goes nowhere."""
        fd = channel.take_fds(1)[0]
        self._forking.copies.bury()
        own = os.getpid()
        pid = os.fork()
        if pid:
            self._forking.copies.add(pid)
            os.close(fd)
            channel.send(wire.Told())
            return
        try:
            from kernel_runtime.guest import native

            native.end_with(own)
            channel.close()
            null = os.open("/dev/null", os.O_RDWR)
            for target in (0, 1, 2):
                os.dup2(null, target)
            self.write(Channel(socket.socket(fileno=fd), wire.decode_to_writer))
        finally:
            os._exit(0)  # the host sees whether all has been said

    def _leave_spare(self, channel: Channel, moment: Moment, external: list[str]) -> Channel:
        """A copy that waits at the socket beside; none where there is no room. Returns where the process at hand waits."""
        self._forking.copies.bury()  # the last one, if it was dropped
        if not channel.fds:  # the kernel passes none where none is free
            return channel
        spare = Channel(socket.socket(fileno=channel.fds.popleft()), wire.decode_to_frozen)
        if self._leave_copy(channel.close, spare, moment, external) is None:
            return spare
        spare.close()
        return channel

    def _leave_copy(
        self, let_go: Callable[[], None], channel: Channel, moment: Moment, external: list[str]
    ) -> bool | None:
        """Whether it left one, at ``channel``, which lets go of what is not its own: with no process to be had it waits
        on. None: this is the copy."""
        try:
            done = self._forking.fork(lambda: _begin_again(let_go, channel, moment, external))
        except OSError:
            return False
        return True if done is None else None

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

    def _bury(self, gone: dict[int, str]) -> None:
        """Children of the original, which ended with it: whoever waits for one is told that it was killed."""
        if not gone or "subprocess" not in sys.modules:
            return
        popen = sys.modules["subprocess"].Popen
        for thing in self._garbage.objects():
            if isinstance(thing, popen) and thing.returncode is None and thing.pid in gone:
                thing.returncode = -9

    def _come_back(self, order: wire.Thaw, fds: list[int], moment: Moment, external: list[str]) -> Restored:
        """Give the process what a live branch has."""
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
        self._bury(moment.children)
        signal.setitimer(signal.ITIMER_REAL, *moment.timer)  # no fork inherits it
        if order.reseed:
            _reseed()
        return Restored(order, frozen, external, descriptors.changed(moment.stock))


def _rest(channel: Channel, external: list[str]) -> list[str]:
    """Say that it is frozen, and do nothing more before something comes."""
    channel.send(wire.Frozen(pid=os.getpid(), external=external))
    channel.wait()
    return external


def _begin_again(
    let_go: Callable[[], None], channel: Channel, moment: Moment, external: list[str]
) -> list[str]:
    """What a copy of a copy does at once."""
    let_go()
    descriptors.reopen(moment.stock)
    return _rest(channel, external)


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def few(names: Sequence[str]) -> list[str]:
    """As many names, and as much of each, as are told."""
    return [name[:_MAX_NAME] for name in names[:_MAX_NAMES]]


def _is_dead(fd: int) -> bool:
    """Whether nothing but a place holder is left at this number."""
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH)
    except OSError:
        return False


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


def _touch(order: wire.Touch) -> wire.Told:
    """Where ctypes is not there already, its import would be a difference between states that are to be equal."""
    if "ctypes" in sys.modules:
        from kernel_runtime.guest import native

        for start, size in order.stretches:
            with contextlib.suppress(OSError):  # it has no such page, or the kernel does not do it
                native.populate(start, size, writing=order.writing)
    return wire.Told()


def _reseed() -> None:
    random.seed()
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()

"""Measure one session from outside.

With control groups the kernel counts and holds memory, processes and CPU time. Without them
the processes of the session are summed up (PSS, so that pages shared with the zygote count
once, and the files in its layer, which are memory, too).
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.level import Rung
from kernel_runtime.domain.usage import Usage
from kernel_runtime.domain.verdict import Reason, Verdict
from kernel_runtime.sandbox import cgroups, hierarchy
from kernel_runtime.sandbox.image import is_roots_own
from kernel_runtime.workers.account import Account
from kernel_runtime.workers.processes import Process, Processes

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from kernel_runtime.domain.limits import Limits
    from kernel_runtime.domain.snapshot import Budget
    from kernel_runtime.sandbox.plan import ImagePlan

#: What stands in for a controller that this host does not offer, by the limit it holds.
PARTIAL = {
    "memory": "no control group: RLIMIT_DATA for each process, and the sum is looked at every 50 ms; a burst "
    "between two looks can exceed it, and files without a name (memfd) are not seen",
    "pids": "no control group: RLIMIT_NPROC of the guest's own user, two more than the limit; the copies "
    "that snapshots keep count",
    "cpu": "no control group: the sum over its processes; a child that nobody waits for is missed",
    "cpus": "no control group: its processes are stopped for moments; a short burst can exceed it",
}
#: Where RLIMIT_NPROC does not hold the guest to ``pids``.
PIDS_BRAKED = (
    "no control group: RLIMIT_NPROC counts all processes of the guest's user, and only slows a flood down"
)
PIDS_NOT_HELD = "not held: no control group, and the kernel exempts its own root from RLIMIT_NPROC"
_SHARE_SECONDS = 0.05
#: How long a group is waited for whose processes have been killed.
PATIENCE_SECONDS = 5.0
#: Groups that were not empty by then.
_left: list[cgroups.Group] = []
#: A fork takes memory for page tables, and for what is written next.
_FULL = 0.92


@functools.cache
def world() -> hierarchy.World:
    """This host's control groups, found out once; leftovers of dead fronts are removed."""
    found = hierarchy.detect()
    cgroups.sweep(found)
    return found


def partial(limits: Limits, image: ImagePlan) -> dict[str, str]:
    """The limits of these that this host cannot hold exactly for guests of ``image``, and why."""
    here = world()
    pids = PIDS_BRAKED if image.rung is Rung.LANDLOCK else PARTIAL["pids"]
    reasons = PARTIAL | {"pids": PIDS_NOT_HELD if is_roots_own(image.ids) else pids}
    counted = {
        "memory": "memory" in here.limits,
        "pids": "pids" in here.limits,
        "cpu": here.counts_cpu,
        "cpus": "cpu" in here.limits,
    }
    return {
        name: why for name, why in reasons.items() if not counted[name] and getattr(limits, name) is not None
    }


def room_for_copies(budget: Budget) -> int:
    """How many frozen copies RLIMIT_NPROC must leave room for: those of the budget, and the one being
    made. None where it alone holds ``pids``: there the copies count."""
    return budget.automatic + budget.count + 1 if "pids" in world().limits else 0


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A quick look: ``memory`` bytes (no less than they are: where there is no control group, pages
    that several processes hold count for each), ``cpu`` seconds and ``pids`` so far and now,
    out-of-memory ``kills``, and the ``processes`` where they had to be looked at.
    """

    memory: int
    cpu: float
    pids: int
    kills: int
    processes: list[Process] = []


class Meter:
    """The measure of one session's first process and all below it, made before that exists;
    ``close`` when it is gone. ``account`` counts on over several of them.
    """

    def __init__(self, limits: Limits, account: Account | None = None) -> None:
        self.limits = limits
        self.share = limits.cpus
        self.account = account or Account(limits)
        _remove_left()
        self._group = cgroups.create(world(), limits)
        self._fds = self._group.procs_fds() if self._group else []
        self.init_pid = 0
        self.processes = Processes(0)
        self._peak = self._seen = 0
        self._hurried = False
        self._oom_kills = 0
        self.kills_told = 0
        self._forks_told = 0
        self._copies = 0
        self._held_since: float | None = None
        self._held = 0.0
        self._cell: tuple[float, float | None] | None = None
        self._share = (time.monotonic(), 0.0, 0.0)

    def join_fds(self) -> list[int]:
        """To be passed to the first process, which joins by them."""
        return self._fds

    def started(self, pidfd: int) -> None:
        """The first process exists."""
        self.init_pid = _pid_of(pidfd)
        self.processes = Processes(self.init_pid)
        self._close_fds()

    def _close_fds(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    # -- what the kernel counts here -----------------------------------------------------------

    @property
    def counts_memory(self) -> bool:
        """Whether the kernel holds the memory limit by itself."""
        return self._group is not None and "memory" in world().limits

    @property
    def throttles(self) -> bool:
        """Whether the kernel holds the CPU share by itself."""
        return self._group is not None and "cpu" in world().limits

    @property
    def _counts_pids(self) -> bool:
        return self._group is not None and "pids" in world().limits

    @property
    def _counts_cpu(self) -> bool:
        return self._group is not None and world().counts_cpu

    # -- the picture of a moment ---------------------------------------------------------------

    def look(self) -> Look:
        """What changes quickly, at the price of a few small reads."""
        found = [] if self._counts_everything else self.processes.look()
        counted = self._group.usage() if self._group is not None else None
        if counted and self.counts_memory:
            memory, self._peak = counted.memory, counted.peak
        else:
            memory = sum(p.resident for p in found) + self.in_layer()
        self._seen = max(self._seen, memory)
        return Look(
            memory=memory,
            cpu=counted.cpu if counted and self._counts_cpu else sum(p.cpu for p in found),
            pids=max(0, counted.pids - self._copies)
            if counted and self._counts_pids
            else sum(p.threads for p in found),
            kills=counted.oom_kills if counted else 0,
            processes=found,
        )

    def memory(self, look: Look) -> int:
        """The memory of this look, exactly: where the host sums up itself, each page once."""
        if self.counts_memory:
            return look.memory
        summed = self.processes.shared_out(look.processes) + self.in_layer()
        self._peak = max(self._peak, summed)
        return summed

    def kept_memory(self, look: Look) -> int:
        """The memory of this look without what the kernel can take back (copies of files)."""
        if self._group is not None and self.counts_memory:
            return max(0, look.memory - self._group.file_pages())
        return self.memory(look)

    def peak(self) -> int:
        """The most memory that was seen in use since the first process began; no less than it was."""
        self.look()
        return max(self._peak, self._seen)

    def usage(self, apart: Container[int] = ()) -> Usage:
        """Now; by the control group where there is one, else by the sum of the processes. What frozen copies
        (``apart``) hold open is not the guest's now."""
        look = self.look()
        layer = self.processes.layer()
        seconds, spent = self._of_cell(look.cpu)
        return Usage(
            memory=self.memory(look),
            peak=self._peak,
            cpu=look.cpu,
            cpus=self._lately(look.cpu),
            pids=look.pids,
            disk=None if layer is None else layer.used,
            inodes=None if layer is None else layer.inodes,
            open_files=self.processes.open_files(apart),
            wall=self.account.seconds,
            cell_cpu=spent,
            cell_wall=seconds,
            output=self.account.output,
            messages=self.account.message_rate(),
            network=self.account.network,
            denied=self.account.denied,
            limits=self.limits,
        )

    @property
    def _counts_everything(self) -> bool:
        return self.counts_memory and self._counts_pids and self._counts_cpu

    def in_layer(self) -> int:
        """Bytes of memory that the files of its layer take."""
        layer = self.processes.layer()
        return 0 if layer is None or not layer.in_memory else layer.used

    def _lately(self, cpu: float) -> float:
        """Cores' worth of CPU time since the last look (at least a moment ago)."""
        then, before, share = self._share
        now = time.monotonic()
        if now - then >= _SHARE_SECONDS:
            share = max(0.0, cpu - before) / (now - then) if before else 0.0
            self._share = (now, cpu, share)
        return share

    def is_nearly_full(self) -> bool:
        """Whether its memory has no room for a fork, where the kernel counts it: at the price of one read."""
        limit = self.limits.memory
        if self._group is None or limit is None or self._group.memory_now() < _FULL * limit:
            return False
        return self._group.memory_now() - self._group.file_pages() >= _FULL * limit

    def has_plenty(self, share: float = 0.5) -> bool:
        """Whether the kernel counts memory and processes, and less than this share of what there may be is taken."""
        limits, group = self.limits, self._group
        if group is None or not (self.counts_memory and self._counts_pids):
            return False
        usage = group.usage()
        few = limits.pids is None or usage.pids - self._copies < limits.pids * share
        return few and (limits.memory is None or usage.memory < limits.memory * share)

    # -- causes --------------------------------------------------------------------------------

    def mark(self) -> None:
        """A live branch begins: out-of-memory kills are counted from here."""
        self._oom_kills = self.kills_told = self.kills()

    def kills(self) -> int:
        """Processes of the session that the kernel has killed because memory ran out."""
        return self._group.usage().oom_kills if self._group is not None else 0

    def forks_were_denied(self) -> bool:
        """Whether the kernel has refused it a process or thread since the last question; where it
        does not count them: whether there are about as many as it may have.
        """
        if self._group is None or not self._counts_pids:
            return self.limits.pids is not None and self.look().pids >= self.limits.pids / 2
        told, self._forks_told = self._forks_told, self._group.usage().pids_denied
        return self._forks_told > told

    def out_of_memory(self, since: int | None = None) -> Verdict | None:
        """The verdict, if the kernel has killed for memory (``since`` so many kills, or ``mark``)."""
        if self._group is None:
            return None
        counted, limit = self._group.usage(), self.limits.memory
        kills = counted.oom_kills - (self._oom_kills if since is None else since)
        if kills <= 0:
            return None
        return Verdict(
            reason=Reason.MEMORY,
            limit=limit,
            used=min(counted.peak, limit) if limit else counted.peak,
            evidence=f"the control group counted {kills} out-of-memory kill(s)",
        )

    def leave_room(self, copies: int) -> None:
        """So many more (or fewer) frozen copies, which stand beside the processes that a guest may have:
        where the kernel counts them, ``pids`` is of the guest's own."""
        self._copies += copies
        if self._group is not None and self._counts_pids and self.limits.pids is not None:
            with contextlib.suppress(OSError):  # the group is being removed; else it has less room, not more
                self._group.limit_pids(self.limits.pids + self._copies)

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """Room for one process more, for as long as this holds."""
        self.leave_room(1)
        try:
            yield
        finally:
            self.leave_room(-1)

    def release_cpu(self, released: bool) -> None:
        """Let it run without its CPU share (a tree that is to end must not wait for its turn)."""
        if self.throttles and self._group is not None and self.share is not None:
            self._group.limit_cpu(None if released else self.share)

    def throttle(self, cpus: float | None) -> None:
        """Hold it to so many cores' worth of CPU time, and never to more than its limit."""
        shares = [share for share in (cpus, self.limits.cpus) if share is not None]
        before, self.share = self.share, min(shares) if shares else None
        if self.share != before and self.throttles and self._group is not None:
            self._group.limit_cpu(self.share)

    def reclaim(self) -> int:
        """Have the kernel take back what memory it can; bytes given back."""
        return self._group.reclaim() if self._group is not None else 0

    def hurry(self, hurried: bool) -> None:
        """Let a tree that is ending go before everybody else: many processes end slowly when they wait
        for their turns on a busy host. Nothing of a guest may be running then for long."""
        if self.throttles and self._group is not None and hurried != self._hurried:
            self._hurried = hurried
            self._group.hurry(hurried)

    def carried(self, size: int) -> float:
        """Bytes about to be carried over the network for it; see ``Account.carried``."""
        return self.account.carried(size)

    # -- clocks --------------------------------------------------------------------------------

    def begin_cell(self) -> None:
        """A cell starts now: its seconds are counted from here."""
        self.account.output = 0
        self._cell = (self.clock(), None if self.limits.cpu is None else self.look().cpu)

    @property
    def cell(self) -> tuple[float, float | None]:
        """When the cell began, by ``clock``, and the CPU seconds at that moment (if they are limited)."""
        return self._cell or (self.clock(), None)

    def _of_cell(self, cpu: float) -> tuple[float | None, float | None]:
        if self._cell is None:
            return None, None
        begun, before = self._cell
        return self.clock() - begun, None if before is None else max(0.0, cpu - before)

    def hold_wall(self, held: bool) -> None:
        """Stop the clock of the wall limit, or let it go on."""
        if self._held_since is not None:
            self._held += time.monotonic() - self._held_since
        self._held_since = time.monotonic() if held else None

    @property
    def held(self) -> bool:
        """Whether the clock of the wall limit stands still."""
        return self._held_since is not None

    def clock(self) -> float:
        """Seconds that count for the wall limit."""
        now = time.monotonic() if self._held_since is None else self._held_since
        return now - self._held

    def close(self) -> None:
        """Remove the control group, out of the loop's way: its processes may be leaving still."""
        self._close_fds()
        self.processes.close()
        group, self._group = self._group, None
        if group is not None and not group.remove(patience=0):
            threading.Thread(target=_remove, args=(group,), name="cgroup-removal").start()


def _remove(group: cgroups.Group) -> None:
    if not group.remove(patience=PATIENCE_SECONDS):
        _left.append(group)


def _remove_left() -> None:
    """Once more, what could not be removed: on a busy host processes take their time to leave."""
    for group in list(_left):
        if group.remove(patience=0):
            _left.remove(group)


def _pid_of(pidfd: int) -> int:
    """The pid, in our own namespace, of the process behind a pidfd."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    return 0

"""What a session uses of what it may use, as a picture of one moment."""

from __future__ import annotations

import msgspec

from kernel_runtime.domain.amounts import show_amount
from kernel_runtime.domain.limits import Limits

#: From this share of a limit on, a cell is warned once.
NEARLY = 0.8


class Amount(msgspec.Struct, frozen=True):
    """``used`` of ``limit``, in the limit's own unit; None: not known, or not limited."""

    used: float | None
    limit: float | None


class Nearly(msgspec.Struct, frozen=True, kw_only=True):
    """A cell has used most of a limit: its name, and both amounts. Comes once per cell and limit."""

    name: str
    used: float
    limit: float

    def explain(self) -> str:
        """One line for the person in front of the notebook."""
        used, limit = show_amount(self.name, self.used), show_amount(self.name, self.limit)
        return f"{self.name}: {used} of {limit} used ({self.used / self.limit:.0%})"


def nearly(name: str, used: float | None, limit: float | None) -> Nearly | None:
    """The warning that is due, if any."""
    if used is None or limit is None or used < NEARLY * limit:
        return None
    return Nearly(name=name, used=used, limit=limit)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a session uses: ``memory`` and ``peak`` bytes, ``cpu`` seconds since its start,
    ``cpus`` cores' worth of CPU time lately, ``pids`` processes and threads, ``disk`` bytes and
    ``inodes`` in its layer in memory, ``open_files`` of the process that has most, ``wall`` seconds
    since its start; of the cell that runs, or ran last: ``cell_cpu`` and ``cell_wall`` seconds,
    ``output`` bytes; ``messages`` per second lately; ``network`` bytes carried; ``denied`` system
    calls so far. None: not known here. ``limits``: what it may use; ``amounts`` shows both by name.
    """

    memory: int = 0
    peak: int = 0
    cpu: float = 0.0
    cpus: float = 0.0
    pids: int = 0
    disk: int | None = None
    inodes: int | None = None
    open_files: int | None = None
    wall: float = 0.0
    cell_cpu: float | None = None
    cell_wall: float | None = None
    output: int = 0
    messages: float = 0.0
    network: int = 0
    denied: int = 0
    limits: Limits = Limits()

    @property
    def amounts(self) -> dict[str, Amount]:
        """Each limit by its name: what is used of it, and how much it is."""
        used: dict[str, float | None] = {
            "memory": self.memory,
            "cpu": self.cell_cpu,
            "cpus": self.cpus,
            "wall": self.cell_wall,
            "session": self.wall,
            "pids": self.pids,
            "disk": self.disk,
            "inodes": self.inodes,
            "file_size": None,
            "open_files": self.open_files,
            "output": self.output,
            "messages": self.messages,
            "network": self.network,
            "bandwidth": None,
        }
        return {name: Amount(amount, getattr(self.limits, name)) for name, amount in used.items()}

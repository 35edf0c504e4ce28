"""Verdicts: why a guest ended, in a form that people and programs can read."""

from __future__ import annotations

import enum
import signal

import msgspec

from kernel_runtime.domain.amounts import show_amount


class Reason(enum.StrEnum):
    """The causes a guest can end of; the first cause wins."""

    MEMORY = "memory"
    CPU = "cpu"
    WALL = "wall"
    DISK = "disk"
    FILES = "files"
    PIDS = "pids"
    OUTPUT = "output"
    NETWORK = "network"
    SECCOMP = "seccomp"
    SIGNAL = "signal"
    EXIT = "exit"
    PROTOCOL = "protocol"


#: Reasons that are limits: the run used more than it was given.
LIMIT_REASONS = frozenset(
    {
        Reason.MEMORY,
        Reason.CPU,
        Reason.WALL,
        Reason.DISK,
        Reason.FILES,
        Reason.PIDS,
        Reason.OUTPUT,
        Reason.NETWORK,
    }
)
#: Limits that the guest's own code meets as an exception: ``survived`` then means that it got one.
RAISED = frozenset({Reason.MEMORY, Reason.DISK, Reason.FILES, Reason.PIDS, Reason.NETWORK})

#: Which reason a limit ends in.
REASON_OF = {
    "memory": Reason.MEMORY,
    "cpu": Reason.CPU,
    "wall": Reason.WALL,
    "session": Reason.WALL,
    "disk": Reason.DISK,
    "inodes": Reason.DISK,
    "file_size": Reason.DISK,
    "open_files": Reason.FILES,
    "pids": Reason.PIDS,
    "output": Reason.OUTPUT,
    "messages": Reason.OUTPUT,
    "network": Reason.NETWORK,
}

_LIMIT_TEXT = {
    "memory": "it used more memory than its limit",
    "cpu": "it used more CPU time than its limit",
    "wall": "it ran longer than its limit",
    "session": "its session lasted longer than its limit",
    "disk": "it wrote more to disk than its limit",
    "inodes": "it made more files than its limit",
    "file_size": "it wrote more into one file than its limit",
    "files": "it opened more files at once than its limit",
    "open_files": "it opened more files at once than its limit",
    "pids": "it started more processes than its limit",
    "output": "it printed more than its limit",
    "messages": "it sent more messages than its limit",
    "network": "it moved more over the network than its limit",
}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Why a guest ended: ``limit`` and ``used`` in the limit's own unit (bytes, seconds,
    count); ``evidence`` is what the host saw (a counter, a signal, an exit status).
    ``survived``: the cell obeyed when it was interrupted, or met the limit as an exception; the
    guest lives and its state is kept. ``amount`` names the limit where a reason has several.
    ``state``: one sentence on the variables that the session has afterwards; "" where that is not known.
    ``undoable``: it survived with what the cell changed until then, and undo brings back the state before it.
    """

    reason: Reason
    limit: float | None = None
    used: float | None = None
    evidence: str = ""
    survived: bool = False
    amount: str = ""
    state: str = ""
    undoable: bool = False

    @property
    def is_limit(self) -> bool:
        """Whether a limit ended the guest (and not the guest itself, or a fault)."""
        return self.reason in LIMIT_REASONS

    @property
    def raised(self) -> bool:
        """Whether the cell met the limit as an exception of its own code (its error says which)."""
        return self.survived and self.reason in RAISED

    def explain(self) -> str:
        """One plain sentence for the person in front of the notebook."""
        if not self.is_limit:
            return f"the guest ended: {self.evidence or self.reason}"
        name = self.amount or str(self.reason)
        text = f"{self._what()}: {_LIMIT_TEXT[name]} of {show_amount(name, self.limit)}"
        if self.used is not None and not (self.raised and self.reason is Reason.MEMORY):
            text += f" (used {show_amount(name, self.used)})"
        return text

    def tell(self) -> str:
        """``explain``, and where that leaves the session."""
        return f"{self.explain()}. {self.state}" if self.state else self.explain()

    def _what(self) -> str:
        if self.raised:
            return "the cell got an error"
        if self.survived:
            return "the cell was interrupted"
        return "the session was ended" if self.amount == "session" else "the guest was ended"


def verdict_of_status(status: int) -> Verdict:
    """A verdict from a wait status alone, when no earlier cause was recorded."""
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        if name == "SIGSYS":  # all other forbidden calls get an errno
            evidence = "a forbidden system call (SIGSYS): one of another architecture, like int 0x80"
            return Verdict(reason=Reason.SECCOMP, evidence=evidence)
        what = (
            "it crashed" if name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE") else "it was killed"
        )
        return Verdict(reason=Reason.SIGNAL, evidence=f"{what} by {name}")
    return Verdict(reason=Reason.EXIT, evidence=f"its process exited with status {status}")

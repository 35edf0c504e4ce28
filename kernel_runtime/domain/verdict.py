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
    PIDS = "pids"
    OUTPUT = "output"
    SECCOMP = "seccomp"
    SIGNAL = "signal"
    EXIT = "exit"
    PROTOCOL = "protocol"


#: Reasons that are limits: the run used more than it was given.
LIMIT_REASONS = frozenset({Reason.MEMORY, Reason.CPU, Reason.WALL, Reason.DISK, Reason.PIDS, Reason.OUTPUT})

_LIMIT_TEXT = {
    Reason.MEMORY: "it used more memory than its limit",
    Reason.CPU: "it used more CPU time than its limit",
    Reason.WALL: "it ran longer than its limit",
    Reason.DISK: "it wrote more to disk than its limit",
    Reason.PIDS: "it started more processes than its limit",
    Reason.OUTPUT: "it printed more than its limit",
}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Why a guest ended: ``limit`` and ``used`` in the limit's own unit (bytes, seconds,
    count); ``evidence`` is what the host saw (a counter, a signal, an exit status).
    ``survived``: the cell obeyed when it was interrupted; the guest lives and its state is kept.
    """

    reason: Reason
    limit: float | None = None
    used: float | None = None
    evidence: str = ""
    survived: bool = False

    @property
    def is_limit(self) -> bool:
        """Whether a limit ended the guest (and not the guest itself, or a fault)."""
        return self.reason in LIMIT_REASONS

    def explain(self) -> str:
        """One plain sentence for the person in front of the notebook."""
        if self.is_limit:
            what = "the cell was interrupted" if self.survived else "the guest was ended"
            text = f"{what}: {_LIMIT_TEXT[self.reason]} of {show_amount(self.reason, self.limit)}"
            if self.used is not None:
                text += f" (used {show_amount(self.reason, self.used)})"
        else:
            text = f"the guest ended: {self.evidence or self.reason}"
        return text


def verdict_of_status(status: int) -> Verdict:
    """A verdict from a wait status alone, when no earlier cause was recorded."""
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        if name == "SIGSYS":
            return Verdict(reason=Reason.SECCOMP, evidence="a forbidden system call (SIGSYS)")
        what = (
            "it crashed" if name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE") else "it was killed"
        )
        return Verdict(reason=Reason.SIGNAL, evidence=f"{what} by {name}")
    return Verdict(reason=Reason.EXIT, evidence=f"its process exited with status {status}")

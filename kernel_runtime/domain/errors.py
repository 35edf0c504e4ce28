"""The error tree: one root, few classes; each docstring says whose fault it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel_runtime.domain.verdict import Verdict

#: Said to programs of a run that was cut short, where its session can go back.
UNDO = "undo() brings back the state before this run"


class KernelRuntimeError(Exception):
    """Root of everything this package raises on purpose."""


class GuestCodeError(KernelRuntimeError):
    """The guest's code raised: the fault lies in the code that was run.

    ``ename``, ``evalue`` and ``traceback`` (list of lines, ANSI colours) are what
    IPython would have shown. ``verdict``: the limit that is behind it (a full disk, no memory).
    """

    def __init__(
        self,
        ename: str,
        evalue: str,
        traceback: list[str] | None = None,
        verdict: Verdict | None = None,
    ) -> None:
        super().__init__(f"{ename}: {evalue}" if evalue else ename)
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback or []
        self.verdict = verdict


class LimitExceeded(KernelRuntimeError):
    """A guest was ended because it used more than it was given; see ``verdict``."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"{verdict.tell()}. {UNDO}" if verdict.undoable else verdict.tell())
        self.verdict = verdict


class CapabilityDenied(KernelRuntimeError):
    """The guest asked for something it was not granted."""


class GuestLost(KernelRuntimeError):
    """The guest ended without being told to (crash, exit, killed); see ``verdict``."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.tell())
        self.verdict = verdict


class UnsafeThreads(KernelRuntimeError):
    """Threads run beside the code: a copy of the process would not have them, and a checkpoint is written from
    one. End them first (shut executors down, close clients). ``names``: which.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"no snapshot while other threads run: {', '.join(names)}. A copy of the process would not have "
            "them; end them first (shut executors down, close clients)"
        )
        self.names = names


class ExternalStateError(KernelRuntimeError):
    """The code holds what leads out of its process and cannot be copied: sockets, pipes, child
    processes, shared memory. Close it first, or register hooks that do. ``names``: which.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"no snapshot while the code holds what cannot be copied: {', '.join(names)}. Close it first, or "
            "register hooks (kernel_runtime.sdk.branches)"
        )
        self.names = names


class ProtocolViolation(KernelRuntimeError):
    """The guest sent something that is not a frame, or one that is out of bounds."""


class WallUnavailable(KernelRuntimeError):
    """This host cannot build a wall that was asked for; ``fix`` says what to change."""

    def __init__(self, wall: str, reason: str, fix: str = "") -> None:
        text = f"this host cannot build the wall '{wall}': {reason}"
        super().__init__(f"{text}. {fix}" if fix else text)
        self.wall = wall
        self.reason = reason
        self.fix = fix


class ZygoteLost(KernelRuntimeError):
    """The zygote ended or stopped answering; a new one is started for the next guest."""


class NotFound(KernelRuntimeError):
    """What was named does not exist."""


class Conflict(KernelRuntimeError):
    """What was asked contradicts the present state (closed, busy, already there)."""


class Invalid(KernelRuntimeError):
    """A value is malformed; the message names the place and what would be right."""


class OutsideFailed(KernelRuntimeError):
    """What was allowed did not work out there: not reachable, too slow, too large, no proper answer."""


class CallFailed(KernelRuntimeError):
    """The handler of another app raised, ended, or answered what it should not: the fault lies with that app."""


class StorageFailed(KernelRuntimeError):
    """The disk, or the database of the state on it, did not take or give something (full, locked, broken,
    not permitted): nothing was changed, and what depended on it is denied."""


class Damaged(KernelRuntimeError):
    """What was stored is no longer what was written; the message names what is lost."""


#: What may be told to a guest as what it is; other errors cross the wall as their root.
TOLD: tuple[type[KernelRuntimeError], ...] = (
    CallFailed,
    CapabilityDenied,
    Conflict,
    Damaged,
    Invalid,
    NotFound,
    OutsideFailed,
    StorageFailed,
)

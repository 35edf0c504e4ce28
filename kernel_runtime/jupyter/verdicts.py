"""A verdict as Jupyter shows it: error name, message, traceback, metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.verdict import Reason
from kernel_runtime.jupyter.contents import Trouble

if TYPE_CHECKING:
    from kernel_runtime.domain.verdict import Verdict

#: Error name for each reason; a crash is told from a kill by the evidence.
NAMES: dict[Reason, str] = {
    Reason.MEMORY: "MemoryLimitExceeded",
    Reason.CPU: "CpuLimitExceeded",
    Reason.WALL: "WallLimitExceeded",
    Reason.DISK: "DiskLimitExceeded",
    Reason.FILES: "FilesLimitExceeded",
    Reason.PIDS: "PidsLimitExceeded",
    Reason.OUTPUT: "OutputLimitExceeded",
    Reason.NETWORK: "NetworkLimitExceeded",
    Reason.SECCOMP: "ForbiddenSystemCall",
    Reason.SIGNAL: "GuestKilled",
    Reason.EXIT: "GuestExited",
    Reason.PROTOCOL: "ProtocolViolation",
}
KEPT = "The guest lives on; its variables are kept."
NEXT = "A fresh guest is ready; its variables are gone: run the cells above again."
_RED, _PLAIN = "\x1b[0;31m", "\x1b[0m"


def name_of(verdict: Verdict) -> str:
    """The ``ename`` of a verdict."""
    if verdict.reason is Reason.SIGNAL and "crashed" in verdict.evidence:
        return "GuestCrashed"
    return NAMES[verdict.reason]


def trouble_of(verdict: Verdict) -> Trouble:
    """The ``error`` content a cell shows when its guest ended."""
    then = f"{KEPT}{way_back(verdict, '%undo')}" if verdict.survived else verdict.state or NEXT
    return trouble(name_of(verdict), f"{sentence(verdict.explain())}\n{then}", [])


def way_back(verdict: Verdict, magic: str) -> str:
    """That the magic undoes what a cell did that was cut short; "" where it cannot."""
    return f" `{magic}` brings back the state before the cell." if verdict.undoable else ""


def trouble_from(error: BaseException) -> Trouble:
    """The ``error`` content for something that kept the guest from starting."""
    return trouble(type(error).__name__, str(error), [])


def trouble(ename: str, evalue: str, lines: list[str]) -> Trouble:
    """An ``error`` content with a one-line coloured traceback, as IPython ends its own."""
    return Trouble(ename=ename, evalue=evalue, traceback=[*lines, f"{_RED}{ename}{_PLAIN}: {evalue}"])


def metadata_of(verdict: Verdict | None, denied: list[str]) -> dict[str, Any]:
    """Metadata for the reply, for programs: the verdict, and the system calls that were denied."""
    told: dict[str, Any] = {}
    if verdict is not None:
        told["verdict"] = msgspec.to_builtins(verdict)
    if denied:
        told["denied"] = denied
    return {"kernel_runtime": told} if told else {}


def sentence(text: str) -> str:
    """First letter large, a full stop at the end."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."

"""Why a branch, or the whole guest, ended: what the host saw and the kernel counted, as a verdict.

A cause that was recorded before (a limit, a closed session) always comes first; these are the
ends that nobody here brought about.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from kernel_runtime import wire
from kernel_runtime.domain.amounts import show_amount
from kernel_runtime.domain.errors import ZygoteLost
from kernel_runtime.domain.verdict import Reason, Verdict, verdict_of_status

if TYPE_CHECKING:
    from kernel_runtime.domain.errors import ProtocolViolation
    from kernel_runtime.domain.limits import Limits
    from kernel_runtime.workers.init import Init

#: The part of its memory limit that the host must have seen in use to believe that it ran out: the
#: rest may be room that was asked for and not touched yet, or kept back for the report.
_MUCH = 0.5
#: What a branch means by its exit status.
_OWN_WORDS = {
    wire.LOST_STATUS: Verdict(
        reason=Reason.PROTOCOL, evidence="it lost its connection to the host (its descriptors were closed)"
    ),
    wire.DAMAGED_STATUS: Verdict(reason=Reason.EXIT, evidence="what ran in it had damaged its Python"),
}


def ended(evidence: str) -> Verdict:
    """It ended in an orderly way, or was made to."""
    return Verdict(reason=Reason.EXIT, evidence=evidence)


def broken(evidence: object) -> Verdict:
    """It did not do what a guest does."""
    return Verdict(reason=Reason.PROTOCOL, evidence=str(evidence))


def by_the_person() -> Verdict:
    """Who watches it wanted it to end."""
    return Verdict(reason=Reason.SIGNAL, evidence="it was killed by the person in front of it")


def ignored_interrupt(grace: float) -> Verdict:
    """It went on for ``grace`` seconds after it was told to stop."""
    evidence = f"it ignored the interrupt for {grace:g} s and was killed"
    return Verdict(reason=Reason.SIGNAL, limit=grace, evidence=evidence)


def ignored_interrupts(seconds: float) -> Verdict:
    """It went on after it was told to stop once more."""
    evidence = f"it ignored the interrupt, and {seconds:g} s after another one it was killed"
    return Verdict(reason=Reason.SIGNAL, limit=seconds, evidence=evidence)


def of_exit(status: int, limits: Limits, init: Init | None) -> Verdict:
    """A live branch ended with this status (negative: by a signal)."""
    if status == wire.EXHAUSTED_STATUS:
        return _exhausted(limits, init)
    if status == -signal.SIGKILL and init is not None and (verdict := init.meter.out_of_memory()) is not None:
        return verdict
    return _OWN_WORDS.get(status) or verdict_of_status(status)


def _exhausted(limits: Limits, init: Init | None) -> Verdict:
    """It says that memory ran out, and again while that was reported. Any code may say so by this
    status: it is a limit only where the host has seen much of the memory in use."""
    limit, peak = limits.memory, init.meter.peak() if init is not None else 0
    claim = (
        f"by its own exit status ({wire.EXHAUSTED_STATUS}), MemoryError in the cell and while it was reported"
    )
    if limit is None or peak < _MUCH * limit:
        evidence = f"{claim}; the host has seen no more than {show_amount('memory', peak)} in use"
        return Verdict(reason=Reason.EXIT, evidence=evidence)
    evidence = f"{claim}; the host has seen {peak} bytes in use"
    return Verdict(reason=Reason.MEMORY, limit=limit, used=min(peak, limit), evidence=evidence)


def of_loss(init: Init, error: ProtocolViolation | None) -> Verdict:
    """The first process is gone, and with it every process of the session."""
    if error is not None:
        return broken(error)
    if (verdict := init.meter.out_of_memory()) is not None:
        return verdict
    if not init.zygote.alive:
        lost = init.zygote.lost or ZygoteLost("the zygote ended")
        return Verdict(reason=Reason.SIGNAL, evidence=str(lost))
    return Verdict(reason=Reason.SIGNAL, evidence="its first process was killed")

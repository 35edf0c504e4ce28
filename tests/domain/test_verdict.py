"""Why a guest ended, in words."""

from __future__ import annotations

import signal

import pytest

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.verdict import LIMIT_REASONS, Reason, Verdict, verdict_of_status


def test_a_limit_is_explained_with_its_amounts() -> None:
    verdict = Verdict(reason=Reason.MEMORY, limit=512 * MIB, used=513 * MIB)
    assert verdict.is_limit
    assert verdict.explain() == (
        "the guest was ended: it used more memory than its limit of 512 MB (used 513 MB)"
    )


def test_a_survivor_was_interrupted_not_ended() -> None:
    verdict = Verdict(reason=Reason.WALL, limit=2, used=2, survived=True)
    assert verdict.explain().startswith("the cell was interrupted: it ran longer than its limit of 2 s")


@pytest.mark.parametrize("reason", sorted(LIMIT_REASONS))
def test_every_limit_has_its_own_sentence(reason: Reason) -> None:
    others = {Verdict(reason=r, limit=1).explain() for r in LIMIT_REASONS if r != reason}
    assert Verdict(reason=reason, limit=1).explain() not in others


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (0, Reason.EXIT, "exited with status 0"),
        (3, Reason.EXIT, "exited with status 3"),
        (-signal.SIGKILL, Reason.SIGNAL, "killed by SIGKILL"),
        (-signal.SIGSEGV, Reason.SIGNAL, "crashed by SIGSEGV"),
        (-signal.SIGSYS, Reason.SECCOMP, "forbidden system call"),
        (128 + signal.SIGABRT, Reason.SIGNAL, "crashed by SIGABRT"),
        (-200, Reason.SIGNAL, "signal 200"),
    ],
)
def test_a_wait_status_is_a_verdict(status: int, reason: Reason, words: str) -> None:
    verdict = verdict_of_status(status)
    assert verdict.reason is reason
    assert words in verdict.evidence
    assert not verdict.is_limit

"""How a command ends: exit codes, and errors that carry one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from kernel_runtime.domain.errors import (
    CapabilityDenied,
    Conflict,
    GuestCodeError,
    Invalid,
    KernelRuntimeError,
    LimitExceeded,
    NotFound,
    WallUnavailable,
)

if TYPE_CHECKING:
    from kernel_runtime.domain.verdict import Verdict

SUCCESS, USER_ERROR, BAD_INPUT, LIMIT, REFUSED, LOST, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

HELP = """\b
Exit codes:
  0    success
  1    the code that was run raised an error
  2    bad input: a wrong option, file, parameter or limit; nothing was run or changed
  3    a limit ended the run (memory, cpu, time, pids, disk, files, output, …)
  4    refused: this host cannot build a wall, or something forbidden or not granted was asked for
  5    the guest was lost, or kernel_runtime itself failed
  130  interrupted with Ctrl-C
"""

OF_STATUS = {
    "ok": SUCCESS,
    "error": USER_ERROR,
    "limit": LIMIT,
    "refused": REFUSED,
    "lost": LOST,
    "interrupted": INTERRUPTED,
}

_OF_ERROR: tuple[tuple[type[KernelRuntimeError], int], ...] = (
    (Invalid, BAD_INPUT),
    (NotFound, BAD_INPUT),
    (Conflict, BAD_INPUT),
    (GuestCodeError, USER_ERROR),
    (LimitExceeded, LIMIT),
    (WallUnavailable, REFUSED),
    (CapabilityDenied, REFUSED),
)


def code_of(error: KernelRuntimeError) -> int:
    """The exit code that tells this error's kind."""
    return next((code for kind, code in _OF_ERROR if isinstance(error, kind)), LOST)


def status_of_verdict(verdict: Verdict) -> str:
    """``limit``, ``refused`` (a forbidden system call) or ``lost``."""
    if verdict.is_limit:
        return "limit"
    return "refused" if verdict.reason == "seccomp" else "lost"


def failed(message: str, code: int) -> click.exceptions.Exit:
    """Say what went wrong; raise what is returned to end the command with ``code``."""
    label = click.style("Error:", fg="red", bold=True)
    click.echo(f"{label} {message}", err=True, color=None if colours_wanted() else False)
    return click.exceptions.Exit(code)


def colours_wanted() -> bool:
    """https://no-color.org: any non-empty NO_COLOR switches colours off."""
    return not os.environ.get("NO_COLOR")

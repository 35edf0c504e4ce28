"""The line under a traceback that names the sandbox."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.limits import Limits
from kernel_runtime.guest.hints import hint

if TYPE_CHECKING:
    from tests.guest.conftest import Host

LIMITS = Limits(memory=512 * MIB, pids=32, disk=64 * MIB)


def wrapped() -> BaseException:
    error = RuntimeError("request failed")
    error.__cause__ = OSError(errno.ENETUNREACH, "Network is unreachable")
    return error


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (MemoryError(), "may use 512 MB of memory"),
        (OSError(errno.ENOMEM, "x"), "may use 512 MB of memory"),
        (OSError(errno.ENOSPC, "x"), "64 MB of disk"),
        (BlockingIOError(errno.EAGAIN, "x"), "32 processes and threads"),
        (RuntimeError("can't start new thread"), "32 processes and threads"),
        (PermissionError(errno.EACCES, "x", "/etc/shadow"), "own directory /work"),
        (OSError(errno.EROFS, "x", "/usr/x"), "own directory /work"),
        (FileNotFoundError(errno.ENOENT, "x", "/home/me/x"), "sees only its own directory /work"),
        (OSError(errno.ENETUNREACH, "x"), "no network"),
        (socket.gaierror(-3, "x"), "no network"),
        (wrapped(), "no network"),
    ],
)
def test_hint(error: BaseException, part: str) -> None:
    text = hint(error, LIMITS, "/work")
    assert text is not None
    assert text.startswith("kernel_runtime: ")
    assert part in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        FileNotFoundError(errno.ENOENT, "x", "missing.csv"),
        FileNotFoundError(errno.ENOENT, "x", "/work/missing.csv"),
        PermissionError(errno.EACCES, "x", "/work/locked"),
        RuntimeError("something else"),
        KeyError("x"),
    ],
)
def test_no_hint(error: BaseException) -> None:
    assert hint(error, LIMITS, "/work") is None


def test_no_hint_for_what_is_not_limited() -> None:
    assert hint(MemoryError(), Limits(memory=None), "/work") is None


def test_what_shows_the_limits_is_named_where_there_is_something() -> None:
    text = hint(OSError(errno.EMFILE, "x"), LIMITS, "/work", shown_by="%limits")
    assert text is not None
    assert text.endswith("(limit open_files, see %limits)")


def test_hint_is_the_last_line_of_the_traceback(shared: Host) -> None:
    (error,) = shared.run("raise MemoryError").published("error")
    assert error["traceback"][-1] == "kernel_runtime: this guest may use 512 MB of memory (limit memory)"
    assert error["evalue"] == ""


REFUSED = PermissionError(errno.EPERM, "Operation not permitted")
MANY = [f"socket(AF_{number})" for number in range(9)]


@pytest.mark.parametrize(
    ("error", "denied", "text"),
    [
        (REFUSED, ["socket(AF_VSOCK)"], "denied: socket(AF_VSOCK)"),
        (REFUSED, ["bpf", "unshare"], "denied: bpf, unshare"),
        (REFUSED, ["socket(AF_NETLINK)"], "denied: socket(AF_NETLINK)"),
        (REFUSED, MANY, f"denied: …, {', '.join(MANY[-5:])}"),
        (ValueError("x"), ["bpf"], "denied: bpf"),
        (ValueError("x"), ["socket(AF_NETLINK)", "io_uring_setup"], None),
        (ValueError("x"), ["socket(AF_NETLINK)", "bpf"], "denied: bpf"),
        (PermissionError(errno.EPERM, "x", "true"), ["execve"], "denied: execve"),
    ],
)
def test_denied_calls_are_named(error: BaseException, denied: list[str], text: str | None) -> None:
    assert hint(error, LIMITS, "/work", denied=denied) == text


def test_denied_calls_come_last() -> None:
    text = hint(MemoryError(), LIMITS, "/work", denied=["bpf"])
    assert text is not None
    assert text.splitlines()[0].startswith("kernel_runtime: this guest may use")
    assert text.splitlines()[1] == "denied: bpf"

"""One plain line under a traceback whose cause is the sandbox, not the code."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import show_amount

if TYPE_CHECKING:
    from kernel_runtime.domain.limits import Limits

_NETWORK = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def hint(error: BaseException, limits: Limits, cwd: str, level: str = "") -> str | None:
    """What the sandbox has to do with ``error``; None when it has nothing to do with it."""
    text = _amount(error, limits) or _place(error, cwd)
    if text is None:
        return None
    return f"kernel_runtime: {text}"


def _amount(error: BaseException, limits: Limits) -> str | None:
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return _limited("memory", "of memory", limits)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _limited("disk", "of disk (kept in memory)", limits)
    if number == errno.EAGAIN or (isinstance(error, RuntimeError) and "start new thread" in str(error)):
        return _limited("pids", "processes and threads at once", limits)
    return None


def _limited(name: str, what: str, limits: Limits) -> str | None:
    amount = getattr(limits, name)
    if amount is None:
        return None
    return f"this guest may use {show_amount(name, amount)} {what} (%limits)"


def _place(error: BaseException, cwd: str) -> str | None:
    if not isinstance(error, OSError):
        return _cause(error, cwd)
    if _is_network(error):
        return "this guest has no network; nothing was granted"
    path = error.filename if isinstance(error.filename, str) else ""
    outside = path.startswith("/") and not _within(path, cwd)
    if isinstance(error, FileNotFoundError) and outside:
        return f"this guest sees only its own directory {cwd} and the Python environment"
    if error.errno in _REFUSED and (outside or not path):
        return f"this guest may not do that outside its own directory {cwd}"
    return _cause(error, cwd)


def _is_network(error: OSError) -> bool:
    return type(error).__name__ in ("gaierror", "herror") or error.errno in _NETWORK


def _cause(error: BaseException, cwd: str) -> str | None:
    """urllib and requests wrap the socket's error; a short walk down finds it."""
    for _ in range(8):
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        if not isinstance(inner, BaseException) or inner is error:
            return None
        if isinstance(inner, OSError) and _is_network(inner):
            return _place(inner, cwd)
        error = inner
    return None


def _within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")

"""A plain line or two under a traceback whose cause is the sandbox, not the code."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import show_amount
from kernel_runtime.guest.calls import PROBES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernel_runtime.domain.limits import Limits

_NETWORK = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
#: Denied calls named under one error.
_SHOWN = 5


def hint(
    error: BaseException, limits: Limits, cwd: str, denied: Sequence[str] = (), shown_by: str = ""
) -> str | None:
    """What the sandbox has to do with ``error``; None when it has nothing to do with it.

    ``denied``: the system calls that were denied since the cell began, the last of them last. ``shown_by``: what shows
    the limits.
    """
    refused = _denied(error, denied)
    text = _amount(error, limits, shown_by) or (None if refused and _is_bare(error) else _place(error, cwd))
    lines = [f"kernel_runtime: {text}"] if text else []
    return "\n".join([*lines, *refused]) or None


def _denied(error: BaseException, denied: Sequence[str]) -> list[str]:
    """A probe that a library makes by itself is no reason, unless the error is a refusal."""
    told = [call for call in denied if call not in PROBES or _is_bare(error)]
    if len(told) > _SHOWN:
        told = ["…", *told[-_SHOWN:]]
    return [f"denied: {', '.join(told)}"] if told else []


def _is_bare(error: BaseException) -> bool:
    """Whether it is a refusal of something that is no file."""
    return isinstance(error, OSError) and error.errno == errno.EPERM and not error.filename


def limit_behind(error: BaseException, limits: Limits) -> str | None:
    """The name of the limit that this error is what its code sees of; None: of none."""
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        name = "memory"
    elif number in (errno.ENOSPC, errno.EDQUOT):
        name = "inodes" if _inodes_are_gone() else "disk"
    elif number == errno.EFBIG:
        name = "disk" if limits.file_size is None else "file_size"
    elif number == errno.EMFILE:
        name = "open_files"
    elif number == errno.EAGAIN or (isinstance(error, RuntimeError) and "start new thread" in str(error)):
        name = "pids"
    else:
        return None
    return None if getattr(limits, name) is None else name


def _inodes_are_gone() -> bool:
    """Whether the layer has room for bytes but for no further file."""
    try:
        status = os.statvfs("/tmp")  # noqa: S108 - the guest's own, a part of its layer
    except OSError:
        return False
    return status.f_files > 0 and status.f_ffree == 0 and status.f_bfree > 0


_WHAT = {
    "memory": "of memory",
    "disk": "of disk (kept in memory)",
    "inodes": "files and directories in its layer",
    "file_size": "in one file",
    "open_files": "open files at once in one process",
    "pids": "processes and threads at once",
}


def _amount(error: BaseException, limits: Limits, shown_by: str) -> str | None:
    name = limit_behind(error, limits)
    if name is None:
        return None
    see = f", see {shown_by}" if shown_by else ""
    return f"this guest may use {show_amount(name, getattr(limits, name))} {_WHAT[name]} (limit {name}{see})"


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

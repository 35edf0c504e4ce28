"""Where checkpoints lie: a directory that is this user's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kernel_runtime.domain.errors import Conflict, StorageFailed


def default_directory() -> Path:
    """``$XDG_STATE_HOME/kernel-runtime/checkpoints``; it need not exist yet."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "kernel-runtime" / "checkpoints"


def make_private(directory: Path) -> Path:
    """The directory, made if need be; ``Conflict`` if others could write or read there."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise StorageFailed(f"{directory}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise Conflict(
            f"{directory} is not a private directory of yours: make it so with chmod 700, or choose another"
        )
    return directory

"""Where policy files lie: the system's, the person's own, the project's."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "policy.toml"
SYSTEM = Path("/etc/kernel-runtime") / NAME
_PROJECT = Path(".kernel-runtime") / NAME


def user_file(environment: Mapping[str, str]) -> Path:
    """The person's own policy."""
    config = environment.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "kernel-runtime" / NAME


def project_file(directory: Path) -> Path | None:
    """The policy of the project that ``directory`` is in: the nearest ``.kernel-runtime/policy.toml`` upwards."""
    place = directory.absolute()
    for parent in (place, *place.parents):
        if not _is_ours(parent):
            return None
        if (parent / _PROJECT).exists():
            return parent / _PROJECT
    return None


def _is_ours(directory: Path) -> bool:
    """Above what belongs to us (/tmp, say) others may have put a file in our way."""
    try:
        status = directory.stat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & stat.S_IWOTH


def found(directory: Path, environment: Mapping[str, str], system: Path = SYSTEM) -> list[Path]:
    """Those that are there for work in ``directory``."""
    files = (system, user_file(environment), project_file(directory))
    return [file for file in files if file is not None and os.path.lexists(file)]

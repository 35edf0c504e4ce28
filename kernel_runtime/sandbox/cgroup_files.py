"""The files of control groups: how a group is made and let go, its files read and written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def make(directory: Path) -> None:
    directory.mkdir()


def drop(directory: Path) -> None:
    directory.rmdir()


def removed(directory: Path) -> bool:
    try:
        drop(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def write(path: Path, text: str) -> None:
    """Without creating: a control file that is not there must be an error."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def number(path: Path) -> int:
    return int(read(path) or 0)


def field(path: Path, name: str) -> int:
    """The number after ``name`` in a file of ``name number`` lines; 0 when it is not there."""
    for line in read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0

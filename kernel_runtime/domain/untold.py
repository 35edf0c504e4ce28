"""The host's paths, taken out of what a guest is told: where policies, stores and grants lie is none of its business."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORD = r"""[^\s/:;,()'"`<>|]+"""
#: From the root or somebody's home, and no part of a URL or a scope. Directories may have blanks in their names.
_PATH = re.compile(rf"(?<![\w/:.~*\]])~?/(?:{_WORD}(?: {_WORD}){{0,3}}/)*{_WORD}")


def without_paths(text: str, said: Iterable[str] = ()) -> str:
    """Of each path only its last name is left; what the guest has ``said`` itself stays as it said it."""
    if "/" not in text:
        return text
    known = sorted(filter(None, said), key=len, reverse=True)
    return _PATH.sub(lambda match: _told(match[0], known), text)


def _told(path: str, known: list[str]) -> str:
    for said in known:
        if path == said or ("://" in said and path in said):
            return path
        if path.endswith(f"/{said.removeprefix('./')}"):
            return said.removeprefix("./")
    return path.rpartition("/")[2]

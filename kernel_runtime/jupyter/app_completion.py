"""Completion in ``%%app`` cells: the options of the magic, and the manifest in the comments at the cell's head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_runtime.domain.manifest import FOOT, HEAD
from kernel_runtime.domain.manifest_words import Next, following

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Of these two each may stand several times.
OF_VARIABLES = ("-i", "-o", "--in", "--out")
OPTIONS = (*OF_VARIABLES, "--fresh")
#: So much of a comment is the beginning of a mark.
_BEGUN = len("# /")


def in_head(lines: Sequence[str]) -> Next | None:
    """For the lines of an ``%%app`` cell up to the cursor, the magic's first: what may come next in its manifest, and the
    word that is begun; None where there is no manifest."""
    begun = next((number for number, line in enumerate(lines) if number and line.strip()), len(lines) - 1)
    present = lines[-1]
    if begun == len(lines) - 1:
        return Next([HEAD], present) if HEAD.startswith(present) else None
    comments = lines[begun + 1 :]
    if lines[begun].rstrip() != HEAD or not all(_goes_on(line) for line in comments[:-1]):
        return None
    if FOOT.startswith(present) and (len(present) >= _BEGUN or not present):
        return Next([FOOT], present)
    if not present.startswith("#"):
        return None
    return following("\n".join(line[1:].removeprefix(" ") for line in comments))


def _goes_on(line: str) -> bool:
    return line.startswith("#") and line.rstrip() != FOOT

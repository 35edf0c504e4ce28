"""What a cell has shown, as text, so that two runs of it can be compared."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Characters of one cell that are kept; lines of a comparison that are shown.
MOST_KEPT, MOST_SHOWN = 64 * 1024, 40
_SHOWN = {"execute_result": "result", "display_data": "display"}
#: What differs from run to run and means nothing: addresses, ids, times.
_UNSTEADY = (
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"0x[0-9a-fA-F]{6,}"), "0x…"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "(id)"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?"), "(time)"),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?\b"), "(time)"),
    (re.compile(r"\b\d+(\.\d+)?(e-?\d+)? ?(ns|µs|us|ms|s|min)\b"), "(time)"),
)


class Transcript(msgspec.Struct, kw_only=True):
    """The texts of one run of a cell, by kind (``stdout``, ``stderr``, ``display``, ``result``,
    ``error``), each bounded."""

    code: str
    texts: dict[str, str] = {}
    ended: bool = False

    def add(self, kind: str, text: str) -> None:
        """Append; beyond 64 KB of the cell nothing more is kept."""
        room = MOST_KEPT - sum(map(len, self.texts.values()))
        if room > 0:
            self.texts[kind] = self.texts.get(kind, "") + text[:room]

    def show(self, kind: str, content: Mapping[str, Any]) -> None:
        """Append the text of an error or of something displayed, as messages and notebooks hold it."""
        if kind == "error":
            self.add(kind, f"{content.get('ename')}: {content.get('evalue')}\n")
        elif kind in _SHOWN:
            data = content.get("data")
            plain = data.get("text/plain", "") if isinstance(data, dict) else ""
            self.add(_SHOWN[kind], f"{plain}\n")


def steady(text: str) -> str:
    """Without what differs from run to run."""
    for pattern, instead in _UNSTEADY:
        text = pattern.sub(instead, text)
    return text


def compare(before: Transcript, after: Transcript) -> list[str]:
    """Lines that differ, as a unified diff for each kind of output; empty when none does."""
    lines: list[str] = []
    for kind in dict.fromkeys((*before.texts, *after.texts)):
        old, new = (steady(run.texts.get(kind, "")).splitlines() for run in (before, after))
        if old != new:
            lines += [f"{kind}:", *_changed(old, new)]
    return lines if len(lines) <= MOST_SHOWN else [*lines[:MOST_SHOWN], "…"]


def _changed(old: Sequence[str], new: Sequence[str]) -> list[str]:
    lines = list(difflib.unified_diff(old, new, n=0, lineterm=""))[2:]  # without the two that name the files
    return [f"  {line}" for line in lines if not line.startswith("@@")]

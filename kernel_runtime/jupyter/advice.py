"""The check in a notebook: what a cell's source does, said before the cell runs.

Read in the front, from text alone: nothing is run, and a long cell is not read at all.
"""

from __future__ import annotations

import enum
import html
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kernel_runtime.broker.policies import check_sections
from kernel_runtime.domain.check import Checker
from kernel_runtime.domain.errors import CapabilityDenied, Invalid
from kernel_runtime.domain.level import Level
from kernel_runtime.guest.check_rules import joined, load_policy, sections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernel_runtime.domain.check import Finding
    from kernel_runtime.domain.check_policy import Policy

#: Characters of a cell that are read before it runs: a quarter of a second of reading at most.
MAX_CELL = 50_000
_SHOWN = 12


class CheckRefused(CapabilityDenied):
    """The check's policy has an error for this cell, and the kernel was set to refuse such cells."""


class Mode(enum.StrEnum):
    """``off``: not checked. ``show``: findings are shown, then the cell runs. ``refuse``: a cell with
    an error, or that cannot be checked, is not run."""

    OFF = "off"
    SHOW = "show"
    REFUSE = "refuse"


def parse_mode(text: str, place: str = "check") -> Mode:
    """``"show"`` → ``Mode.SHOW``; ``Invalid`` names place and choices."""
    try:
        return Mode(text.strip().lower())
    except ValueError:
        raise Invalid(f"{place}: {text!r} is no way to check; choose one of {', '.join(Mode)}") from None


def mode_for(asked: str, spoken: bool, level: Level) -> Mode:
    """What is asked; else ``show`` at strict or where a policy has ``[check]``, and ``off`` elsewhere."""
    if asked:
        return parse_mode(asked)
    return Mode.SHOW if spoken or level is Level.STRICT else Mode.OFF


class Advice:
    """Reads the cells of one notebook as they come."""

    def __init__(self, mode: Mode, policy: Policy) -> None:
        self.mode = mode
        self._checker = Checker(policy)

    def read(self, code: str, *, script: bool = False) -> Reading:
        """What is to be said about a cell, of which at most ``MAX_CELL`` characters are read, or about a script."""
        if self.mode is Mode.OFF:
            return Reading([])
        if len(code) > MAX_CELL and not script:
            return Reading([], f"longer than {MAX_CELL} characters: not checked", shown=True)
        try:
            return Reading(self._checker.source(code, plain=script))
        except Invalid as error:
            return Reading([], str(error))

    def judge(self, code: str, *, script: bool = False) -> dict[str, str] | None:
        """What to display before the code runs, if anything; ``CheckRefused`` when it is not to run."""
        reading, what = self.read(code, script=script), "script" if script else "cell"
        if self.mode is Mode.REFUSE:
            if reading.trouble:
                raise CheckRefused(f"this {what} cannot be checked, and was not run: {reading.trouble}")
            errors = [finding for finding in reading.findings if finding.severity == "error"]
            if errors:
                lines = "\n".join(one_line(finding) for finding in errors[:_SHOWN])
                raise CheckRefused(f"the check refuses this {what}; nothing of it was run\n{lines}")
        return reading.bundle()


def advice_for(check: str, policy: str, level: Level, directory: Path | None = None) -> Advice:
    """The advice that is asked for by the settings, the named policy and those that hold in ``directory`` (the one we are
    in); ``Invalid`` says what is wrong with them."""
    if check and parse_mode(check) is Mode.OFF:
        return Advice(Mode.OFF, load_policy(policy))
    found = sections(policy, check_sections(directory or Path.cwd(), os.environ))
    return Advice(mode_for(check, bool(found), level), joined(found))


class Reading:
    """Findings of one cell, or why there are none. A syntax error is left to Python to show."""

    def __init__(self, findings: Sequence[Finding], trouble: str = "", *, shown: bool = False) -> None:
        self.findings = findings
        self.trouble = trouble
        self._shown = shown

    def bundle(self) -> dict[str, str] | None:
        """One compact display; None when nothing is to be said."""
        if self.findings:
            return {"text/plain": as_text(self.findings), "text/html": as_html(self.findings)}
        if self.trouble and self._shown:
            return {"text/plain": f"check: {self.trouble}"}
        return None


def one_line(finding: Finding) -> str:
    """``line 3: error: uses os.system; use …``"""
    advice = f"; {finding.suggestion}" if finding.suggestion else ""
    return f"line {finding.line}: {finding.severity}: {finding.message}{advice}"


def as_text(findings: Sequence[Finding]) -> str:
    """For consoles."""
    lines = [f"check: {one_line(finding)}" for finding in findings[:_SHOWN]]
    return "\n".join([*lines, *_more(findings)])


def as_html(findings: Sequence[Finding]) -> str:
    """For notebooks: a table without style of its own."""
    rows = "".join(
        f"<tr><td>line {finding.line}</td><td><b>{finding.severity}</b></td>"
        f"<td><code>{html.escape(finding.message)}</code></td><td>{html.escape(finding.suggestion)}</td></tr>"
        for finding in findings[:_SHOWN]
    )
    more = "".join(f"<tr><td></td><td></td><td>{line}</td><td></td></tr>" for line in _more(findings))
    return f"<table><tr><th>check</th><th></th><th>found</th><th>suggestion</th></tr>{rows}{more}</table>"


def _more(findings: Sequence[Finding]) -> list[str]:
    left = len(findings) - _SHOWN
    return [f"… and {left} more; kernel-runtime check shows all"] if left > 0 else []

"""``kernel-runtime check``: read notebooks and scripts without running them."""

from __future__ import annotations

import io
import json
import os
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from kernel_runtime.cli import outcome
from kernel_runtime.domain.check import Checker, Finding
from kernel_runtime.domain.check_policy import Severity, Tightened, promised
from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernel_runtime.domain.check_policy import Policy

#: Bytes of one file.
MAX_FILE = 64 * 1024 * 1024
#: Findings of one file that are printed, the gravest first to stay, in the order of the file.
SHOWN = 50
_STDIN = "<stdin>"
_STYLES = {"error": "red", "warning": "yellow", "info": "cyan"}

_EPILOG = """\b
Examples:
  kernel-runtime check notebook.ipynb
  kernel-runtime check job.py --policy team.toml --json
  git show HEAD:job.py | kernel-runtime check -

\b
Exit codes:
  0  no findings of severity error
  1  findings of severity error
  2  bad input: a wrong option or policy, a file that cannot be read or parsed

A check reads and advises. What code can reach is decided by the walls it runs behind.
"""


class Report(msgspec.Struct):
    """One file: its findings, and what could not be read of it."""

    file: str
    findings: list[Finding] = []
    troubles: list[str] = []
    sources: dict[int | None, list[str]] = {}


@click.command("check", epilog=_EPILOG)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--policy", metavar="FILE", default="", help="Rules of your own (TOML), over the package's.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, all of them.")
@click.option("--all", "every", is_flag=True, help=f"Print every finding, not the gravest {SHOWN} of a file.")
def check_command(files: tuple[str, ...], policy: str, as_json: bool, every: bool) -> None:
    """Say where notebooks (.ipynb) and scripts do what a policy, or their app's manifest, speaks about; nothing is run.

    - reads a script or a notebook from standard input.
    """
    rules = _Rules(policy)
    reports = [check_file(name, rules.of(name)) for name in files]
    if as_json:
        click.echo(json.dumps(_for_programs(reports), indent=2, ensure_ascii=False))
    else:
        _print(reports, every=every)
    raise click.exceptions.Exit(_code(reports))


class _Rules:
    """What files are read for: the policies that hold where each of them lies, and the one that was named."""

    def __init__(self, named: str) -> None:
        from kernel_runtime.guest.check_rules import load_policy

        self._named = named
        self._found: dict[Path, Policy] = {}
        load_policy(named)  # a malformed one is refused at once

    def of(self, name: str) -> Policy:
        from kernel_runtime.broker.policies import check_sections
        from kernel_runtime.guest.check_rules import load_policy

        directory = Path.cwd() if name == "-" else Path(name).absolute().parent
        if directory not in self._found:
            held = check_sections(directory, os.environ)
            self._found[directory] = load_policy(self._named, held)
        return self._found[directory]


def check_file(name: str, policy: Policy) -> Report:
    """Check one file; what is wrong with it is in the report."""
    report = Report(_STDIN if name == "-" else name)
    try:
        data = _read(name)
        if name.endswith(".ipynb") or (name == "-" and _is_notebook(data)):
            _check_notebook(report, data, policy)
        else:
            _check_script(report, data, policy)
    except Invalid as error:
        report.troubles.append(str(error).removeprefix(f"{report.file}: "))
    return report


def _with_promises(report: Report, policy: Policy) -> Policy:
    """The policy, and before it what the app that the file belongs to says it does not use: the notebook's own
    manifest, or the one beside it."""
    from kernel_runtime.apps.manifests import manifests_of

    found = [] if report.file == _STDIN else manifests_of(Path(report.file))
    rules = [rule for one in found for rule in promised(one.table.security.blocked_apis)]
    return Tightened(policy, rules) if rules else policy


def _read(name: str) -> bytes:
    from kernel_runtime.jupyter.document import read_bytes

    data = sys.stdin.buffer.read(MAX_FILE + 1) if name == "-" else read_bytes(Path(name))
    if len(data) > MAX_FILE:
        raise Invalid(f"larger than {MAX_FILE >> 20} MB: not checked")
    return data


def _is_notebook(data: bytes) -> bool:
    return data.lstrip()[:1] == b"{" and b'"nbformat"' in data


def _check_script(report: Report, data: bytes, policy: Policy) -> None:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        source = data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise Invalid(f"not Python: {error}") from None
    report.sources = {None: source.split("\n")}
    report.findings = Checker(_with_promises(report, policy)).source(source, plain=True)


def _check_notebook(report: Report, data: bytes, policy: Policy) -> None:
    from kernel_runtime.jupyter.document import check_language, parse_notebook

    notebook = parse_notebook(data, report.file)
    check_language(notebook, report.file)
    checker = Checker(_with_promises(report, policy))
    cells = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    report.sources = {number: source.split("\n") for number, source in enumerate(cells, 1)}
    for number, source in enumerate(cells, 1):
        try:
            report.findings += checker.source(source, number)
        except Invalid as error:
            report.troubles.append(f"cell {number}, {error}")


def _code(reports: Sequence[Report]) -> int:
    if any(report.troubles for report in reports):
        return outcome.BAD_INPUT
    return 1 if _count(reports, Severity.ERROR) else outcome.SUCCESS


def _count(reports: Sequence[Report], severity: Severity) -> int:
    return sum(finding.severity is severity for report in reports for finding in report.findings)


def _for_programs(reports: Sequence[Report]) -> dict[str, object]:
    files = [
        {"file": r.file, "troubles": r.troubles, "findings": [msgspec.to_builtins(f) for f in r.findings]}
        for r in reports
    ]
    return {"files": files, **{f"{severity}s": _count(reports, severity) for severity in Severity}}


def _chosen(findings: Sequence[Finding], every: bool) -> Sequence[Finding]:
    """The gravest ``SHOWN`` of them, in their order."""
    if every or len(findings) <= SHOWN:
        return findings
    places = sorted(range(len(findings)), key=lambda place: findings[place].severity.rank)[:SHOWN]
    return [findings[place] for place in sorted(places)]


def _print(reports: Sequence[Report], *, every: bool) -> None:
    from rich.text import Text

    from kernel_runtime.cli.terminal import console, one_line

    screen = console()
    for report in reports:
        if report.findings or report.troubles:
            screen.print(Text(one_line(report.file), style="bold"))
        chosen = _chosen(report.findings, every)
        for finding in chosen:
            _print_finding(finding, _line(report, finding))
        if left := len(report.findings) - len(chosen):
            screen.print(Text(f"  … and {left} more; --all shows them"))
        for trouble in report.troubles:
            screen.print(Text.assemble("  ", ("not checked", "red"), f"  {one_line(trouble, 200)}"))
    counts = [(_count(reports, severity), str(severity)) for severity in Severity]
    told = ", ".join(f"{n} {name}{'s' * (n != 1)}" for n, name in counts if n) or "nothing found"
    files = f"{len(reports)} file{'s' * (len(reports) != 1)}"
    broken = sum(bool(report.troubles) for report in reports)
    screen.print(f"{told} in {files}" + (f"; {broken} not wholly checked" if broken else ""))


def _line(report: Report, finding: Finding) -> str:
    lines = report.sources.get(finding.cell, [])
    return lines[finding.line - 1] if finding.line <= len(lines) else ""


def _print_finding(finding: Finding, source: str) -> None:
    from rich.text import Text

    from kernel_runtime.cli.terminal import console, one_line

    place = f"{finding.line}:{finding.column}"
    if finding.cell is not None:
        place = f"cell {finding.cell}, line {place}"
    severity = (f"{finding.severity:<7}", _STYLES[finding.severity])
    screen = console()
    screen.print(Text.assemble("  ", (place, "dim"), "  ", severity, f"  {one_line(finding.message, 160)}"))
    if source.strip():
        screen.print(Text.assemble("      ", (one_line(source), "dim")))
    if finding.suggestion:
        screen.print(Text.assemble("      ", one_line(finding.suggestion, 200)))

"""Running a notebook file: checked before, shown during, written and explained after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.text import Text

from kernel_runtime.apps.manifests import read_manifest
from kernel_runtime.cli.guests import check_rules
from kernel_runtime.cli.outcome import OF_STATUS, colours_wanted
from kernel_runtime.cli.progress import Progress, seconds
from kernel_runtime.cli.terminal import console, harmless, one_line
from kernel_runtime.domain.errors import CapabilityDenied, Invalid
from kernel_runtime.jupyter import document, parameters
from kernel_runtime.jupyter import notebook as runner
from kernel_runtime.jupyter.guests import limit_seen_inside

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from kernel_runtime.jupyter.notebook import Failure, Outcome
    from kernel_runtime.jupyter.settings import Settings

_FIXES = {
    "memory": "give it more with --memory, or load less at once",
    "wall": "give each cell more with --time, or do less in one cell",
    "cpu": "give each cell more with --cpu, or do less in one cell",
    "pids": "allow more with --pids, or start fewer processes and threads",
    "disk": "allow more with --disk, or write less",
    "files": "allow more with --open-files, or close what is no longer needed",
    "output": "allow more with --output-limit or --messages, or print less",
    "network": "allow more with --network, or move less",
    "exit": "find what ends the process: os._exit, a crash in a library",
    "signal": "find what crashes or ends the process: a library in C, os.kill",
    "seccomp": "find which library makes the system call; the walls do not allow it",
}
_NEXT = {
    "error": "the traceback is in the executed notebook; fix the cell and run again",
    "refused": "run 'kernel-runtime doctor' to see what this host can enforce and how to fix the rest",
    "lost": "run 'kernel-runtime doctor'; if that shows nothing, report this with the text above",
    CapabilityDenied.__name__: "grant it with --allow SCOPE or in a policy file (--policy), if this notebook may have it",
    "interrupted": "outputs so far are in the executed notebook",
}


class NotebookJob(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for, beside limits and level."""

    path: Path
    pairs: tuple[str, ...]
    raw: tuple[str, ...]
    files: tuple[Path, ...]
    allow_unknown: bool
    workdir: Path | None
    out: Path | None
    html: str | None
    as_json: bool
    log_output: bool
    quiet: bool

    @property
    def target(self) -> Path:
        """Where the executed notebook goes."""
        return self.out or self.path.with_name(f"{self.path.stem}.executed.ipynb")

    @property
    def page(self) -> Path | None:
        """Where the HTML page goes, if one was asked for."""
        if self.html is None:
            return None
        return Path(self.html) if self.html else self.target.with_suffix(".html")

    @property
    def directory(self) -> Path:
        """The directory the guest sees."""
        found = (self.workdir or self.path.parent).resolve()
        if not found.is_dir():
            raise Invalid(f"--workdir: {found} is not a directory")
        return found

    def values(self) -> dict[str, Any]:
        """The parameters: of the files, then ``-p``, then ``-r``."""
        values: dict[str, Any] = {}
        for file in self.files:
            values |= parameters.read_parameters(file)
        return (
            values
            | parameters.parse_pairs(self.pairs)
            | parameters.parse_pairs(self.raw, raw=True, place="-r")
        )


def run_job(job: NotebookJob, settings: Settings) -> int:
    """Run it; returns the exit code. ``Invalid`` before anything was run or written."""
    notebook = document.read_notebook(job.path)
    values = job.values()
    parameters.inject(notebook, values, allow_unknown=job.allow_unknown)
    settings.manifest = settings.manifest or str(job.path.absolute())
    read_manifest(Path(settings.manifest))
    runner.tighten_by(notebook, settings)
    check_rules(settings, job.directory)
    for note in settings.notes:
        click.echo(f"note: {harmless(note, colours=False)}", err=True)
    for place in filter(None, (job.target, job.page)):
        document.check_writable(place)
    runner.clear_outputs(notebook)
    outcome = _run(job, notebook, settings)
    _note(notebook, outcome, values, settings)
    _write(job, notebook)
    if outcome.failure is not None:
        _explain(outcome.status, outcome.failure)
    _report(job, outcome)
    return OF_STATUS[outcome.status]


def _run(job: NotebookJob, notebook: NotebookNode, settings: Settings) -> Outcome:
    progress = Progress(console(stderr=True), log_output=job.log_output, quiet=job.quiet)
    try:
        return runner.run_notebook(notebook, settings=settings, workdir=job.directory, watcher=progress)
    finally:
        progress.close()


# -- after --------------------------------------------------------------------------------------


def _write(job: NotebookJob, notebook: NotebookNode) -> None:
    document.write_notebook(job.target, notebook)
    if job.page is not None:
        from kernel_runtime.jupyter.page import render_page  # nbconvert takes half a second

        document.write_file(job.page, render_page(notebook, job.path.stem, job.directory))


def _note(notebook: NotebookNode, outcome: Outcome, values: dict[str, Any], settings: Settings) -> None:
    """Leave in the notebook's metadata how this run went."""
    entry = notebook.metadata.setdefault(runner.KEY, {})
    entry["run"] = {
        "status": outcome.status,
        "seconds": round(outcome.seconds, 3),
        "level": str(settings.level),
        "standing": outcome.standing,
        "limits": msgspec.to_builtins(settings.limits),
        "parameters": {name: parameters.literal(value, name) for name, value in values.items()},
    }
    if outcome.failure is not None:
        entry["run"]["failure"] = msgspec.to_builtins(outcome.failure) | {"traceback": []}


def _report(job: NotebookJob, outcome: Outcome) -> None:
    if job.as_json:
        summary = msgspec.to_builtins(outcome) | {
            "exit_code": OF_STATUS[outcome.status],
            "notebook": str(job.target),
            "html": None if job.page is None else str(job.page),
        }
        click.echo(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode())
        return
    ran = sum(cell.status in ("ok", "expected-error", "error") for cell in outcome.cells)
    click.echo(f"{ran} of {len(outcome.cells)} cells ran in {seconds(outcome.seconds)}")
    click.echo(f"notebook: {job.target}")
    if job.page is not None:
        click.echo(f"page:     {job.page}")


def _explain(status: str, failure: Failure) -> None:
    """Which cell, why, and what next; the traceback first, as a terminal user expects."""
    screen = console(stderr=True)
    if failure.traceback:
        lines = harmless("\n".join(failure.traceback), colours=colours_wanted())
        screen.print(Text.from_ansi(lines))
    place = "" if failure.cell is None else f"cell {failure.cell + 1} `{one_line(failure.line, 60)}`: "
    if failure.verdict is not None:
        why = failure.verdict.explain()
    else:
        why = failure.ename + (f": {failure.evalue}" if failure.evalue else "")
    screen.print(Text.assemble(("Error: ", "bold red"), place + one_line(why, 400)))
    reason = failure.verdict.reason if failure.verdict else limit_seen_inside(failure.ename, failure.evalue)
    fix = _FIXES.get(str(reason)) or _NEXT.get(failure.ename) or _NEXT.get(status, "")
    screen.print(Text.assemble(("Next: ", "bold"), fix))

"""``kernel-runtime run``: a notebook or a script, headless, in a sandboxed guest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kernel_runtime.cli import outcome
from kernel_runtime.cli.options import asked, grant_options, limit_options
from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from kernel_runtime.jupyter.settings import Settings

_EPILOG = f"""\b
Examples:
  kernel-runtime run analysis.ipynb
  kernel-runtime run analysis.ipynb -p rows=100 --memory 1G --time 5m --html
  kernel-runtime run job.py --level strict -- --its-own-flag value

Without -o the executed notebook is written beside the notebook as NAME.executed.ipynb, also when a
cell failed (with the outputs so far). Cells tagged raises-exception may fail, cells tagged
skip-execution are not run. A notebook's metadata may tighten the limits, never widen them.

{outcome.HELP}"""


class RunCommand(click.Command):
    """``--html`` takes a path only when it looks like one: ``run --html nb.ipynb`` must not eat the notebook."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args = list(args)
        end = args.index("--") if "--" in args else len(args)
        for index, word in enumerate(args[:end]):
            following = args[index + 1] if index + 1 < end else ""
            if word == "--html" and not following.lower().endswith((".html", ".htm")):
                args[index] = "--html="
        return super().parse_args(ctx, args)


@click.command("run", cls=RunCommand, epilog=_EPILOG)
@click.argument("path", metavar="NOTEBOOK|SCRIPT.py", type=click.Path(path_type=Path))
@click.argument("arguments", metavar="[-- ARGS…]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "-p", "pairs", metavar="NAME=VALUE", multiple=True, help="Set a parameter; typed as papermill does."
)
@click.option(
    "-r", "raw", metavar="NAME=TEXT", multiple=True, help="Set a parameter to the text as it stands."
)
@click.option(
    "-f",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Parameters from a YAML or JSON file; -p and -r go over it.",
)
@click.option(
    "--allow-unknown-parameters",
    "allow_unknown",
    is_flag=True,
    help="Also inject names the parameters cell does not know.",
)
@grant_options
@limit_options
@click.option(
    "--workdir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory the guest sees and starts in.  [default: where the file lies]",
)
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path),
    metavar="OUT.ipynb",
    help="Where the executed notebook goes.",
)
@click.option(
    "--html", metavar="[PATH.html]", help="Also write one HTML page, by default beside the executed notebook."
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON on stdout.")
@click.option("--log-output", is_flag=True, help="Show what cells print while they run.")
@click.option("-q", "--quiet", is_flag=True, help="No progress; errors and the outcome only.")
def run_command(path: Path, **options: Any) -> None:
    """Run a notebook or a script in a sandboxed guest.

    The guest sees the file's directory (its writes go to a layer in memory and vanish with it) and
    nothing else of yours. Arguments after -- are the script's own sys.argv.
    """
    settings = asked(options)
    if path.suffix.lower() == ".py":
        code = _run_script(path, settings, options)
    else:
        code = _run_notebook(path, settings, options)
    raise click.exceptions.Exit(code)


def _run_notebook(path: Path, settings: Settings, options: dict[str, Any]) -> int:
    from kernel_runtime.cli.notebook import NotebookJob, run_job

    if options.pop("arguments"):
        raise Invalid("arguments after -- are for scripts; give a notebook parameters with -p name=value")
    return run_job(NotebookJob(path=path, **options), settings)


def _run_script(path: Path, settings: Settings, options: dict[str, Any]) -> int:
    from kernel_runtime.cli.script import run_script_file

    refused = {"pairs": "-p", "raw": "-r", "files": "-f", "out": "-o", "html": "--html"}
    for name, flag in refused.items():
        if options[name] not in ((), None):
            raise Invalid(
                f"{flag} is for notebooks; give a script its arguments after --, like: run {path} -- --rows 100"
            )
    return run_script_file(
        path, options["arguments"], settings, options["workdir"], as_json=options["as_json"]
    )

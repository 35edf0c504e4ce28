"""``kernel-runtime exec``: a piece of code as one cell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from kernel_runtime.cli import outcome
from kernel_runtime.cli.options import asked, grant_options, limit_options
from kernel_runtime.domain.errors import Invalid

_EPILOG = f"""\b
Examples:
  kernel-runtime exec -c "sum(range(10))"
  echo "print(open('/etc/passwd').read())" | kernel-runtime exec -

{outcome.HELP}"""


@click.command("exec", epilog=_EPILOG)
@click.option("-c", "code", metavar="CODE", help="The code; its last expression is printed, as a cell does.")
@click.argument("source", metavar="[-]", required=False)
@grant_options
@limit_options
@click.option(
    "--workdir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory the guest sees and starts in.  [default: an empty one]",
)
@click.option("--json", "as_json", is_flag=True, help="Print output, result and outcome as JSON on stdout.")
def exec_command(
    code: str | None, source: str | None, workdir: Path | None, as_json: bool, **options: Any
) -> None:
    """Run a piece of code as one cell in a sandboxed guest.

    The code is given with -c, or read from standard input with -.
    """
    settings = asked(options)
    text = _code(code, source)
    if workdir is not None and not workdir.is_dir():
        raise Invalid(f"--workdir: {workdir} is not a directory")

    from kernel_runtime.cli.advising import advise
    from kernel_runtime.cli.conversing import Terminal, finish
    from kernel_runtime.cli.guests import guest_for

    advise(text, settings, workdir or Path.cwd())
    with guest_for(settings, workdir=workdir, name="exec") as guest:
        done = Terminal(guest, capture=as_json, prompts=code is not None).run(text)
        done.standing = guest.standing
    raise click.exceptions.Exit(finish(done, as_json=as_json))


def _code(code: str | None, source: str | None) -> str:
    if code is not None and source is not None:
        raise Invalid("give the code either with -c or on standard input, not both")
    if code is not None:
        return code
    if source != "-":
        hint = f"; to run a file: kernel-runtime run {source}" if source else ""
        raise Invalid(f"no code: write -c CODE, or - to read it from standard input{hint}")
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("standard input is not UTF-8 text") from None

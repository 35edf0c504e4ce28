"""``kernel-runtime doctor``: which walls this host can build, tried and not guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kernel_runtime.cli import outcome

if TYPE_CHECKING:
    from kernel_runtime.workers.doctor import WallReport

_STYLES = {"enforced": "green", "partial": "yellow", "missing": "red"}


@click.command(
    "doctor",
    epilog=f"""\b
Exit code 0: every wall can be built. 4: one is missing; the last lines say how to fix it.

{outcome.HELP}""",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def doctor_command(as_json: bool) -> None:
    """Try which walls this host can build, and say how to fix what is missing."""
    from kernel_runtime.workers import doctor

    walls = doctor.report()
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(walls), indent=2).decode())
    else:
        _print(walls)
    good = all(wall.status != "missing" for wall in walls)
    raise click.exceptions.Exit(outcome.SUCCESS if good else outcome.REFUSED)


def _print(walls: list[WallReport]) -> None:
    from rich.table import Table
    from rich.text import Text

    from kernel_runtime.cli.terminal import console

    table = Table(box=None, pad_edge=False)
    for title in ("wall", "status", "what it holds", "what was seen"):
        table.add_column(title, overflow="fold")
    for wall in walls:
        table.add_row(
            wall.name, Text(wall.status, style=_STYLES.get(wall.status, "")), wall.purpose, wall.detail
        )
    screen = console()
    screen.print(table, soft_wrap=False)
    for wall in walls:
        if wall.fix and wall.status != "enforced":
            screen.print(Text.assemble(("Fix ", "bold"), f"{wall.name}: {wall.fix}"))

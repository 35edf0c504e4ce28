"""``python -m benchmarks [--quick] [--only NAME …] [--json OUT] [--profile NAME …]``."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import kishu, machine, profiles, report, suite  # noqa: F401 — profiles and suite register themselves
from benchmarks.figures import Figure, Reading
from benchmarks.registry import ABSENT, BENCHMARKS, PROFILES, Benchmark
from benchmarks.scale import SCALES, Scale
from benchmarks.sizes import SIZES

if TYPE_CHECKING:
    from collections.abc import Sequence

#: So many of the benchmarks are named by how long they took.
_TOLD = 5
_DEFAULT_OUT = Path("out/benchmarks.json")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", "size", flag_value="quick", help="Fewer rounds, and no state above 1 GB.")
@click.option("--tiny", "size", flag_value="tiny", hidden=True, help="Only to see that everything runs.")
@click.option(
    "--only", "names", multiple=True, type=click.Choice(list(BENCHMARKS)), help="Only this one (repeatable)."
)
@click.option("--profile", "explained", multiple=True, type=click.Choice(list(PROFILES)),
              help="Show where the time goes instead (repeatable).")  # fmt: skip
@click.option(
    "--kishu",
    "with_kishu",
    is_flag=True,
    help="Measure kishu as well, in an environment of its own that is made when first asked for.",
)
@click.option("--kishu-most", "most", type=click.Choice(list(SIZES)), default="100MB", show_default=True,
              help="The largest state it is shown; one above 100MB takes minutes a cell: once.")  # fmt: skip
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), default=_DEFAULT_OUT,
              show_default=True, help="Where the figures are written.")  # fmt: skip
def main(
    size: str | None, names: Sequence[str], explained: Sequence[str], with_kishu: bool, most: str, out: Path
) -> None:
    """Measure kernel_runtime beside plain ipykernel, a plain fork and bubblewrap.

    Exit status 1 when a benchmark could not be run; a missed bar is told, and no failure.
    """
    # Into a file or a pipe a table of 80 columns would be all line breaks.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    scale = SCALES[size or "full"]
    if explained:
        for name in explained:
            _explain(console, name, scale)
        return
    about = machine.describe()
    if with_kishu:
        os.environ[kishu.MOST] = str(SIZES[most])
        _prepare_kishu(console)
    figures, failed = _measure(console, [BENCHMARKS[name] for name in names or BENCHMARKS], scale)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report.document(figures, scale, about, failed), indent=1) + "\n")
    console.print(report.table(figures))
    _say_the_rest(console, figures, failed, out)
    sys.exit(1 if failed or (with_kishu and kishu.KISHU in ABSENT) else 0)


def _prepare_kishu(console: Console) -> None:
    """Where it cannot be had, its figures are missing, and the reason is told."""
    try:
        with console.status("kishu: its own environment"):
            console.print(f"beside us: {kishu.prepare()}")
    except kishu.NotToBeHad as error:
        ABSENT[kishu.KISHU] = str(error)


def _measure(
    console: Console, chosen: Sequence[Benchmark], scale: Scale
) -> tuple[list[Figure], dict[str, str]]:
    figures: dict[str, Figure] = {}
    failed = {}
    took = {}
    columns = (
        SpinnerColumn(),
        TextColumn("{task.completed}/{task.total} {task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(chosen))
        for one in chosen:
            figures |= {spec.name: Figure(spec) for spec in one.figures}
            progress.update(task, description=one.name)
            begun = time.monotonic()
            try:
                for reading in one.measure(scale):
                    figure = figures[reading.figure]
                    figure.add(reading)
                    progress.update(task, description=_latest(figure, reading))
            except Exception as error:  # one benchmark that fails must not take the others with it
                failed[one.name] = f"{type(error).__name__}: {error}"
                console.print(
                    f"[red]{one.name} failed[/red]\n{''.join(traceback.format_exception(error, limit=-4))}"
                )
            took[one.name] = time.monotonic() - begun
            progress.advance(task)
    console.print(_durations(took))
    return list(figures.values()), failed


def _durations(took: dict[str, float]) -> str:
    """How long the run took, and which of the benchmarks most of it."""
    longest = sorted(took, key=lambda name: -took[name])[:_TOLD]
    told = ", ".join(f"{name} {took[name] / 60:.1f}" for name in longest)
    return f"Took {sum(took.values()) / 60:.1f} minutes: {told}{', …' if len(took) > _TOLD else ''}"


def _latest(figure: Figure, reading: Reading) -> str:
    count = len(figure.values[reading.subject])
    return f"{reading.figure} · {reading.subject} · {count}: {report.show(reading.value, figure.spec.unit)}"


def _say_the_rest(console: Console, figures: list[Figure], failed: dict[str, str], out: Path) -> None:
    missed = report.missed(figures)
    if missed:
        names = ", ".join(f"{name} (and by its floor)" if floor else name for name, floor in missed.items())
        console.print(f"Bars missed: {names}. Where the time goes: --profile {' | '.join(PROFILES)}")
    for name, why in ABSENT.items():
        console.print(f"[yellow]Left out: {name} ({escape(why)})[/yellow]")
    if failed:
        console.print(f"[red]Not run to the end: {', '.join(failed)}[/red]")
    console.print(f"Written: {out}")


def _explain(console: Console, name: str, scale: Scale) -> None:
    chosen = PROFILES[name]
    table = Table("step", "median", title=chosen.title, title_justify="left")
    with console.status(f"profile {name}"):
        for step, seconds in chosen.explain(scale):
            table.add_row(step, report.show(seconds, "s"))
    console.print(table)


if __name__ == "__main__":
    main()

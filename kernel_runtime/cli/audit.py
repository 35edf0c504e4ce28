"""``kernel-runtime audit``: what was decided, and whether the log of it is whole."""

from __future__ import annotations

import contextlib
import csv
import re
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

import click
import msgspec

from kernel_runtime.cli import outcome
from kernel_runtime.domain.amounts import GIB, show_bytes
from kernel_runtime.domain.audit import EVENTS, FIELDS, Head
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.rules import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kernel_runtime.domain.audit import Record
    from kernel_runtime.state import State

_HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})")
#: Bytes of archives of which it is told: nothing removes them but who keeps this state.
_MUCH = GIB
_SEARCHED = ("app", "capability", "decision", "event", "holder", "principal", "tenant")
_CHOICES = {"decision": [str(effect) for effect in Effect], "event": EVENTS}


@click.group("audit")
def audit_command() -> None:
    """Read, verify and archive the log of decisions."""


def _search_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for name in reversed(_SEARCHED):
        choices = click.Choice(_CHOICES[name]) if name in _CHOICES else None
        shown = None if choices else "TEXT"
        command = click.option(
            f"--{name}", type=choices, metavar=shown, help=f"Only records with this {name}."
        )(command)
    return click.option("--since", metavar="TIME", help="Only records of the last TIME, like 2h or 7d.")(
        command
    )


@audit_command.command("verify")
@click.option(
    "--noted", metavar="HEAD", help="A head that an earlier verification printed and you kept elsewhere."
)
def verify_command(noted: str | None) -> None:
    """Check that no record was altered, deleted, put elsewhere or cut off. Exit code 1 when one was."""
    from kernel_runtime.state import State

    head = _parse_head(noted) if noted else None
    with State() as state:
        report = state.audit.verify(head)
        _tell_of_much(state)
    click.echo(f"{report.records} records and {report.archived} in archives, head {report.head}")
    for trouble in report.troubles:
        click.secho(f"record {trouble.number}: {trouble.text}", fg="red", color=_colour())
    if report.troubles:
        raise click.exceptions.Exit(outcome.USER_ERROR)
    click.echo("the chain is whole" if report.head.number else "the log is empty")


@audit_command.command("list")
@_search_options
@click.option(
    "--last", metavar="N", type=click.IntRange(1), default=50, show_default=True, help="The newest N."
)
def list_command(since: str | None, last: int, **wanted: str | None) -> None:
    """Show records, the newest last."""
    from kernel_runtime.state import State

    with State() as state:
        records = list(state.audit.records(_given(wanted), since=_since(since), last=last))
        _tell_of_much(state)
    if not records:
        click.echo("no records")
        return
    _print(records)


@audit_command.command("export")
@_search_options
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True,
              help="One JSON object a line, or CSV.")  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Archives too, without a search.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="A new file, instead of standard output."
)
def export_command(
    form: str, everything: bool, since: str | None, output: str | None, **wanted: str | None
) -> None:
    """Write records for other programs."""
    from kernel_runtime.state import State

    equal = _given(wanted)
    if everything and (equal or since):
        raise click.UsageError("--all is the whole log: search in it with another program")
    write = _write_csv if form == "csv" else _write_jsonl
    with State() as state, _opened(output) as file:
        write(
            file, state.audit.everything() if everything else state.audit.records(equal, since=_since(since))
        )


@audit_command.command("rotate")
@click.option("--keep", metavar="N", type=click.IntRange(0), default=10_000, show_default=True,
              help="How many of the newest records stay in the database.")  # fmt: skip
def rotate_command(keep: int) -> None:
    """Move older records into an archive beside the database now (beyond 105,000 that happens by itself); the chain
    goes on through it."""
    from kernel_runtime.state import State

    with State() as state:
        moved = state.audit.rotate(keep)
        click.echo(f"{moved} records moved to {state.audit.archive}" if moved else "nothing to move")
        _tell_of_much(state)


def _tell_of_much(state: State) -> None:
    """Archives are never deleted by this program: who runs it hears when they have grown."""
    count, size = state.audit.archives()
    if size >= _MUCH:
        what = f"{count} archive{'s' if count > 1 else ''} in {state.audit.archive}"
        click.echo(
            f"{what} take {show_bytes(size)}, and nothing removes them by itself: move the oldest to where you keep "
            "records (verify then names them as missing), or put a rate on the rule that writes so much",
            err=True,
        )


def _parse_head(text: str) -> Head:
    match = _HEAD.fullmatch(text.strip())
    if match is None:
        raise Invalid(f"--noted: {text!r} is no head; audit verify prints one, like 120:3f0c…")
    return Head(int(match[1]), match[2])


def _since(text: str | None) -> float:
    from kernel_runtime.domain.limits import parse_seconds

    return time.time() - parse_seconds(text, "--since") if text else 0.0


def _given(wanted: dict[str, str | None]) -> dict[str, str]:
    return {name: text for name, text in wanted.items() if text is not None}


@contextlib.contextmanager
def _opened(output: str | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    try:
        with open(output, "x", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise Invalid(f"{output} cannot be written: {error.strerror or error}") from None


def _write_jsonl(file: TextIO, records: Iterable[Record]) -> None:
    encoder = msgspec.json.Encoder()
    file.writelines(encoder.encode(record).decode("utf-8") + "\n" for record in records)


def _write_csv(file: TextIO, records: Iterable[Record]) -> None:
    """What a spreadsheet would take for a formula gets an apostrophe before it."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(FIELDS)
    for record in records:
        writer.writerow([_plain(value) for value in msgspec.structs.astuple(record)])


def _plain(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _print(records: list[Record]) -> None:
    from rich.table import Table

    from kernel_runtime.cli.terminal import cell, show_table

    table = Table(box=None, pad_edge=False)
    for title in ("number", "when", "event", "app", "what", "decision", "rule"):
        table.add_column(title)
    for record in records:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.at))
        what = f"{record.capability}:{record.resource}".strip(":")
        texts = (record.event, record.app, what, record.decision, record.rule)
        table.add_row(str(record.number), when, *map(cell, texts))
    show_table(table)


def _colour() -> bool | None:
    return None if outcome.colours_wanted() else False

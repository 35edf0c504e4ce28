"""``kernel-runtime checkpoints``: what sessions have saved. Nothing is unpickled here."""

from __future__ import annotations

import datetime as dt
import json
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from kernel_runtime.domain.amounts import counted, show_bytes
from kernel_runtime.domain.checkpoint import Retention, outdated
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.limits import parse_bytes, parse_seconds

if TYPE_CHECKING:
    from kernel_runtime.domain.checkpoint import Checkpoint
    from kernel_runtime.store.checkpoints import DiskStore


@click.group("checkpoints")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where they lie, if not in the default place.",
)
@click.pass_context
def checkpoints_command(context: click.Context, directory: Path | None) -> None:
    """List, carry and prune the checkpoints that sessions have saved on disk.

    A checkpoint is named by its id, the beginning of it, or its label, where only one session or notebook has one of
    that label. Encrypted ones need the key
    in KERNEL_RUNTIME_CHECKPOINT_KEY, or in the file that KERNEL_RUNTIME_CHECKPOINT_KEY_FILE names.
    """
    context.obj = directory


def _open(directory: Path | None) -> closing[DiskStore]:
    from kernel_runtime.store.checkpoints import DiskStore

    return closing(DiskStore(directory))


@checkpoints_command.command("list")
@click.option("--key", help="Only those of this session or notebook.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def list_command(directory: Path | None, key: str | None, as_json: bool) -> None:
    """List checkpoints, newest first."""
    with _open(directory) as store:
        kept = store.checkpoints(key)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(kept), indent=2))
    elif not kept:
        click.echo("there are no checkpoints")
    else:
        _print(kept)


def _print(kept: list[Checkpoint]) -> None:
    from rich.table import Table

    from kernel_runtime.cli.terminal import cell, show_table

    table = Table(box=None, pad_edge=False)
    for title in ("id", "made", "label", "of", "variables", "size", "on disk"):
        table.add_column(title, no_wrap=title in ("id", "made", "label"))
    for one in kept:
        row = (
            one.id,
            _time(one),
            one.label,
            one.key,
            _variables(one),
            show_bytes(one.size),
            show_bytes(one.added),
        )
        table.add_row(*map(cell, row))
    show_table(table)


def _variables(one: Checkpoint) -> str:
    if not one.readable:
        return "encrypted" if one.sealed else "damaged"
    return f"{len(one.names)}, {len(one.skipped)} not" if one.skipped else str(len(one.names))


def _time(one: Checkpoint) -> str:
    return dt.datetime.fromtimestamp(one.made).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@checkpoints_command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def show_command(directory: Path | None, name: str, as_json: bool) -> None:
    """Show what is inside a checkpoint, and what is not, with the reason."""
    from kernel_runtime.cli.terminal import one_line

    with _open(directory) as store:
        one = store.checkpoint(name)
        groups = store.groups(one.id)
    if as_json:
        sizes = [{"names": group.names, "size": sum(part.size for part in group.parts)} for group in groups]
        click.echo(json.dumps({**msgspec.to_builtins(one), "groups": sizes}, indent=2))
        return
    click.echo(f"checkpoint {one.id} {one_line(one.label)}".rstrip())
    click.echo(f"  of {one_line(one.key)}, made {_time(one)}, after {one.parent or 'nothing'}")
    packages = ", ".join(f"{package} {version}" for package, version in sorted(one.about.packages.items()))
    click.echo(one_line(f"  Python {one.about.python}; {packages or 'no packages'}"))
    click.echo(f"  restores {show_bytes(one.size)}; {show_bytes(one.added)} on disk were new")
    for group in groups:
        size = show_bytes(sum(part.size for part in group.parts))
        names = ", ".join(group.names) or "what the notebook defines"
        click.echo(one_line(f"  {names}: {size}"))
    for variable, reason in one.skipped.items():
        click.echo(one_line(f"  not saved: {variable}: {reason}"))


@checkpoints_command.command("export")
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def export_command(directory: Path | None, name: str, file: Path) -> None:
    """Write a checkpoint to one file, NOT encrypted, to be imported elsewhere."""
    from kernel_runtime.store import transfer

    with _open(directory) as store:
        one = store.checkpoint(name)
        size = transfer.export(store, one.id, file)
    click.echo(f"checkpoint {one.id} is in {file} ({show_bytes(size)})")


@checkpoints_command.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def import_command(directory: Path | None, file: Path) -> None:
    """Keep the checkpoint of a file. Its content runs only when it is restored, inside a guest."""
    from kernel_runtime.store import transfer

    with _open(directory) as store:
        one = transfer.take_in(store, file)
    click.echo(f"{file} is checkpoint {one.id}")


@checkpoints_command.command("prune")
@click.option("--count", type=click.IntRange(min=1), help="Keep so many of each session or notebook.")
@click.option("--age", help="Keep those that are younger, for instance 12h, 7d or 2w.")
@click.option("--bytes", "size", help="Keep those that took so much on disk, newest first, for instance 10G.")
@click.option("--key", help="Only those of this session or notebook.")
@click.option("--labelled", is_flag=True, help="Also those that have a label.")
@click.option(
    "--newest", is_flag=True, help="Also the newest of a session or notebook, if it is too old or large."
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.pass_obj
def prune_command(
    directory: Path | None,
    count: int | None,
    age: str | None,
    size: str | None,
    key: str | None,
    labelled: bool,
    newest: bool,
    dry_run: bool,
) -> None:
    """Remove old checkpoints, and give back what nothing refers to.

    Those that have a label stay, and so does the newest of the others of each session or notebook.
    """
    retention = Retention(
        count=count,
        age=None if age is None else parse_seconds(age, "--age"),
        bytes=None if size is None else parse_bytes(size, "--bytes"),
        labelled=labelled,
        newest=newest,
    )
    with _open(directory) as store:
        kept = store.checkpoints(key)
        gone = outdated(kept, retention, time.time())
        if not dry_run:
            freed = store.prune(retention, key=key)
            gone = [one for one in kept if one.id in set(freed.checkpoints)]
    if gone:
        _print(gone)
    if dry_run:
        click.echo(f"would remove {len(gone)} checkpoints; nothing was removed")
    else:
        click.echo(f"removed {len(gone)} checkpoints, {show_bytes(freed.bytes)} are free again")
    staying = _staying(kept, gone, retention)
    if staying:
        click.echo(f"{staying} more that have a label stay; --labelled takes them, too")


def _staying(kept: list[Checkpoint], gone: list[Checkpoint], retention: Retention) -> int:
    """How many are not let go for their label alone."""
    if retention.labelled:
        return 0
    all_of_them = msgspec.structs.replace(retention, labelled=True)
    return sum(one.labelled and one not in gone for one in outdated(kept, all_of_them, time.time()))


@checkpoints_command.command("restore")
@click.argument("name")
@click.option("-c", "code", metavar="CODE", help="Code to run on the variables that are back.")
@click.option("--var", "names", multiple=True, metavar="NAME", help="Only this variable; may be repeated.")
@click.option("--force", is_flag=True, help="Also under another Python, or other versions of packages.")
@click.pass_obj
def restore_command(
    directory: Path | None, name: str, code: str | None, names: tuple[str, ...], force: bool
) -> None:
    """Bring the variables of a checkpoint back in a fresh guest, and run code on them.

    Nothing of it is read outside the guest. Without -c it says what comes back and what does not. The exit code is 1
    where one of the variables does not, or the code raises an error.
    """
    from kernel_runtime.cli.conversing import Terminal, finish
    from kernel_runtime.cli.outcome import SUCCESS, USER_ERROR
    from kernel_runtime.cli.terminal import one_line
    from kernel_runtime.client import Session

    if directory is not None:
        raise Invalid("--directory: a guest restores from the default place; import the checkpoint there")
    with Session(name="restore", automatic=False) as guest:
        restored = guest.load(name, names=names or None, force=force)
        verb = "is" if len(restored.names) == 1 else "are"
        click.echo(
            one_line(
                f"{counted(len(restored.names), 'variable')} of {restored.of} {verb} back: {', '.join(restored.names)}"
            ),
            err=True,
        )
        for variable, reason in restored.failed.items():
            click.echo(one_line(f"not back: {variable}: {reason}"), err=True)
        ended = SUCCESS
        if code is not None:
            ended = finish(Terminal(guest, capture=False, prompts=True).run(code), as_json=False)
        if ended == SUCCESS and restored.failed:
            ended = USER_ERROR
        raise click.exceptions.Exit(ended)


@checkpoints_command.command("rm")
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def rm_command(directory: Path | None, names: tuple[str, ...]) -> None:
    """Remove checkpoints by name, and give back what only they used."""
    with _open(directory) as store:
        for one in [store.checkpoint(name) for name in names]:
            store.remove(one.id)
            click.echo(f"removed {one.id}")
        store.prune(Retention(count=None))

"""``kernel-runtime secrets``: keep, list, exchange and destroy secrets. Values come from the terminal
or standard input, never from the command line: other users can read that."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click
import msgspec

from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from kernel_runtime.broker.vault import Known

_MAX_INPUT = 1 << 20


@click.group("secrets")
def secrets_command() -> None:
    """Keep secrets, sealed, for apps that were granted them by name.

    The values stand in no log and no listing. docs/howto/secrets.md says where the master key is.
    """


@secrets_command.command("set")
@click.argument("name")
def set_command(name: str) -> None:
    """Keep a new secret. Asks for its value, or reads it from standard input."""
    from kernel_runtime.state import State

    value = _value(name)
    with State() as state:
        state.vault().set(name, value)
    click.echo(f"kept {name}, version 1")


@secrets_command.command("rotate")
@click.argument("name", required=False)
@click.option(
    "--grace", metavar="TIME", default="0", help="How long the versions before stay readable, like 1h."
)
@click.option("--master-key", "master", is_flag=True, help="Exchange the master key instead of a value.")
def rotate_command(name: str | None, grace: str, master: bool) -> None:
    """Give a secret a new value, or all of them a new master key."""
    from kernel_runtime.domain.limits import parse_seconds
    from kernel_runtime.state import State

    if (name is None) != master:
        raise click.UsageError("name one secret, or give --master-key")
    seconds = parse_seconds(grace, "--grace")
    value = _value(name) if name else b""
    with State() as state:
        if name is None:
            count = state.vault().rotate_master()
            click.echo(f"a new master key wraps {count} version{'s' * (count != 1)}")
            return
        version = state.vault().rotate(name, value, seconds)
    click.echo(f"kept {name}, version {version}")


@secrets_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_command(as_json: bool) -> None:
    """List names and versions."""
    from kernel_runtime.state import State

    with State() as state:
        known = state.vault().listing()
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(known), indent=2))
    elif not known:
        click.echo("no secrets are kept; kernel-runtime secrets set NAME keeps one")
    else:
        _print(known)


@secrets_command.command("rm")
@click.argument("name")
def rm_command(name: str) -> None:
    """Destroy a secret with all its versions."""
    from kernel_runtime.state import State

    with State() as state:
        state.vault().remove(name)
    click.echo(f"destroyed {name}")


def _value(name: str) -> bytes:
    """From the person, twice and unseen, or all of standard input but one newline at its end."""
    if sys.stdin.isatty():
        text: str = click.prompt(f"Value of {name}", hide_input=True, confirmation_prompt=True)
        return text.encode("utf-8")
    data = sys.stdin.buffer.read(_MAX_INPUT)
    value = data.removesuffix(b"\n").removesuffix(b"\r")
    if not value:
        raise Invalid(f"no value for {name}: give it on standard input, or call this in a terminal")
    return value


def _print(known: list[Known]) -> None:
    import time

    from rich.table import Table

    from kernel_runtime.cli.terminal import show_table

    table = Table(box=None, pad_edge=False)
    for title in ("name", "version", "since", "still readable"):
        table.add_column(title)
    for one in known:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.created))
        table.add_row(one.name, str(one.version), since, ", ".join(map(str, one.older)))
    show_table(table)

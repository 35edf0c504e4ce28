"""``kernel-runtime sessions``: what is alive right now."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from kernel_runtime.workers import registry


@click.command("sessions")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def sessions_command(as_json: bool) -> None:
    """List the live sessions of your kernels and programs on this machine."""
    fronts = registry.listing()
    if as_json:
        click.echo(json.dumps(fronts, indent=2))
        return
    rows = [_row(front, session) for front in fronts for session in _sessions(front)]
    if not rows:
        click.echo("no sessions are alive")
        return
    _print(rows)


def _sessions(front: dict[str, Any]) -> list[dict[str, Any]]:
    found = front.get("sessions")
    return [s for s in found if isinstance(s, dict)] if isinstance(found, list) else []


def _row(front: dict[str, Any], session: dict[str, Any]) -> list[str]:
    began = session.get("began")
    age = f"{max(0.0, time.time() - began):.0f} s" if isinstance(began, int | float) else ""
    values = (
        front["pid"],
        front.get("kind", ""),
        session.get("name", ""),
        session.get("pid", ""),
        session.get("level", ""),
        age,
        session.get("workdir", ""),
    )
    return [str(value) for value in values]


def _print(rows: list[list[str]]) -> None:
    from rich.table import Table

    from kernel_runtime.cli.terminal import cell, show_table

    table = Table(box=None, pad_edge=False)
    for title in ("front", "kind", "name", "guest", "level", "age", "directory"):
        table.add_column(title)
    for row in rows:
        table.add_row(*map(cell, row))
    show_table(table)

"""Options that several commands share: limits, level, working directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from kernel_runtime.domain.amounts import show_amount
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.level import Level, Rung
from kernel_runtime.domain.limits import FLOODS, Limits, parse_limits
from kernel_runtime.jupyter import paths
from kernel_runtime.jupyter.settings import (
    COMMAND_LINE,
    ENVIRONMENT,
    Settings,
    Source,
    apply,
    config_sources,
    environment_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable

#: limit → (flag, metavar, help)
LIMIT_OPTIONS = {
    "memory": ("--memory", "SIZE", "Memory of the whole guest, like 512M or 2G."),
    "wall": ("--time", "TIME", "Wall time of each cell, like 30s or 5m."),
    "cpu": ("--cpu", "TIME", "CPU time of each cell, like 10s."),
    "cpus": ("--cpus", "N", "Cores' worth of CPU time at any moment, like 0.5."),
    "session": ("--session", "TIME", "Wall time of the whole session, like 2h."),
    "pids": ("--pids", "N", "Processes and threads at once, like 32."),
    "disk": ("--disk", "SIZE", "What the guest may write to its own layer, like 64M."),
    "inodes": ("--inodes", "N", "Files and directories in that layer, like 10000."),
    "file_size": ("--file-size", "SIZE", "Size of one file, like 16M."),
    "open_files": ("--open-files", "N", "Open files of one process, like 256."),
    "output": ("--output-limit", "SIZE", "Output of each cell, like 8M."),
    "messages": ("--messages", "N", "Output messages per second, like 1000."),
    "network": ("--network", "SIZE", "Bytes over the network in total, like 1G."),
    "bandwidth": ("--bandwidth", "SIZE", "Bytes over the network per second, like 1M."),
}


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--memory`` … ``--output-limit``, ``--level`` and ``--rung``; read them with ``asked``."""
    command = click.option(
        "--level",
        type=click.Choice([str(level) for level in Level], case_sensitive=False),
        help=f"How much the guest is walled in.  [default: {Level.MODERATE}]",
    )(command)
    command = click.option(
        "--rung",
        type=click.Choice([str(rung) for rung in Rung], case_sensitive=False),
        help="The weakest walls accepted on a host that refuses namespaces.  [default: namespaces]",
    )(command)
    command = click.option(
        "--flood",
        type=click.Choice(FLOODS, case_sensitive=False),
        help=f"A flood of output: leave out its middle, or end the cell.  [default: {FLOODS[0]}]",
    )(command)
    for name, (flag, metavar, text) in reversed(LIMIT_OPTIONS.items()):
        default = show_amount(name, getattr(Limits(), name))
        command = click.option(flag, name, metavar=metavar, help=f"{text}  [default: {default}]")(command)
    return command


def grant_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--allow``, ``--deny``, ``--policy`` and ``--manifest``; ``asked`` reads them, too."""
    options = (
        click.option("--allow", metavar="SCOPE", multiple=True, help="Grant this, like net:api.example.org/GET."),
        click.option("--deny", metavar="SCOPE", multiple=True, help="Deny this, whatever else allows it."),
        click.option("--policy", metavar="FILE", help="Rules of a policy file, beside those that hold."),
        click.option("--manifest", metavar="FILE", help="An app.toml that says what may be asked for."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def given_amounts(options: dict[str, Any]) -> dict[str, str]:
    """Take the limits that were written out of parsed ``options``, as text; each is checked."""
    taken = {name: options.pop(name) for name in LIMIT_OPTIONS}
    given = {name: text for name, text in taken.items() if text is not None}
    for name, text in given.items():
        checked(name, text, Limits())
    return given


def checked(name: str, text: str, base: Limits) -> Limits:
    """``base`` with one amount; an error names the flag that was written."""
    try:
        return parse_limits({name: text}, base, "limits")
    except Invalid as error:
        raise Invalid(LIMIT_OPTIONS[name][0] + str(error).removeprefix(f"limits.{name}")) from None


def asked(options: dict[str, Any]) -> Settings:
    """Take limits and level out of parsed ``options``; weaker than they are Jupyter's
    configuration (``KernelRuntime.*``) and, above it, the environment (``KERNEL_RUNTIME_MEMORY``, …).
    """
    given = given_amounts(options)
    chosen = {name: options.pop(name) for name in ("level", "rung", "flood")}
    chosen |= {name: options.pop(name, None) for name in ("policy", "manifest")}
    chosen |= {name: "\n".join(options.pop(name, ())) or None for name in ("allow", "deny")}
    settings = Settings()
    apply(
        settings,
        [
            *config_sources(paths.config_dirs()),
            Source(ENVIRONMENT, environment_values(os.environ)),
            Source(COMMAND_LINE, given | {name: text for name, text in chosen.items() if text is not None}),
        ],
    )
    return settings

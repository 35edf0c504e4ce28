"""``kernel-runtime install``, ``uninstall`` and ``kernels``: the kernel as Jupyter sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import msgspec

from kernel_runtime.cli import outcome
from kernel_runtime.cli.options import given_amounts, limit_options
from kernel_runtime.jupyter import kernelspec

if TYPE_CHECKING:
    from collections.abc import Callable


def _place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--user``, ``--sys-prefix``, ``--prefix``: where Jupyter looks for kernels."""
    command = click.option("--prefix", metavar="DIR", default="", help="In DIR/share/jupyter/kernels.")(
        command
    )
    command = click.option("--sys-prefix", is_flag=True, help="In this Python's environment.")(command)
    return click.option("--user", is_flag=True, help="In your own Jupyter directory.")(command)


@click.command(
    "install",
    epilog=f"""\b
Examples:
  kernel-runtime install --user
  kernel-runtime install --sys-prefix --name careful --display-name "Python (careful)" --memory 1G --level strict

Without a place: this Python's environment if it is a virtual one, else your own Jupyter directory.
The limits are written into the kernel; a notebook's metadata may tighten them, never widen them.

{outcome.HELP}""",
)
@_place_options
@click.option(
    "--name", default=kernelspec.NAME, show_default=True, help="The kernel's name, as in --kernel NAME."
)
@click.option(
    "--display-name", default=kernelspec.DISPLAY_NAME, show_default=True, help="What the launcher shows."
)
@limit_options
def install_command(
    user: bool, sys_prefix: bool, prefix: str, name: str, display_name: str, **options: Any
) -> None:
    """Install the Jupyter kernel, with limits if you like."""
    amounts = given_amounts(options) | {name: text for name, text in options.items() if text is not None}
    directory = kernelspec.kernels_dir(user=user, sys_prefix=sys_prefix, prefix=prefix)
    path = kernelspec.write_spec(directory, name, display_name, amounts)
    click.echo(f"installed {name!r} ({display_name}) in {path}")
    if directory not in kernelspec.search_dirs():
        click.echo(f"Jupyter does not look there by itself: set JUPYTER_PATH={directory.parent}")
    click.echo(f"try it:  jupyter console --kernel {name}")


@click.command("uninstall", epilog=outcome.HELP)
@_place_options
@click.option("--name", default=kernelspec.NAME, show_default=True, help="The kernel's name.")
def uninstall_command(user: bool, sys_prefix: bool, prefix: str, name: str) -> None:
    """Remove an installed kernel.

    Without a place: wherever Jupyter would start it from.
    """
    if user or sys_prefix or prefix:
        directory = kernelspec.kernels_dir(user=user, sys_prefix=sys_prefix, prefix=prefix)
    else:
        directory = next(
            (path for path in kernelspec.search_dirs() if (path / name / "kernel.json").is_file()),
            kernelspec.kernels_dir(),
        )
    click.echo(f"removed {kernelspec.remove_spec(directory, name)}")


@click.command(
    "kernels",
    epilog=f"""\b
Exit code 0: every kernel of ours can start. 2: one of them belongs to an environment that is gone.

{outcome.HELP}""",
)
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def kernels_command(as_json: bool) -> None:
    """List installed kernels, and whether their Python still exists."""
    found = kernelspec.list_specs()
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
    elif not found:
        click.echo("no kernel is installed; kernel-runtime install installs one")
    else:
        _print(found)
    raise click.exceptions.Exit(outcome.BAD_INPUT if any(one.trouble for one in found) else outcome.SUCCESS)


def _print(found: list[kernelspec.Found]) -> None:
    for one in found:
        click.echo(f"{one.name}  {one.display_name}")
        click.echo(f"  in {one.path}, runs {one.python}")
        if one.trouble:
            click.secho(f"  {one.trouble}", fg="red", color=None if outcome.colours_wanted() else False)

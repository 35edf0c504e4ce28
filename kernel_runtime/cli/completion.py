"""``kernel-runtime completion``: the script that makes a shell complete this command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_EPILOG = """\b
Put one of these into your shell's start file:
  bash  eval "$(kernel-runtime completion bash)"        (~/.bashrc)
  zsh   eval "$(kernel-runtime completion zsh)"         (~/.zshrc)
  fish  kernel-runtime completion fish | source         (~/.config/fish/config.fish)
"""


@click.command("completion", epilog=_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print the script that makes your shell complete this command."""
    found = get_completion_class(shell)
    if found is None:  # pragma: no cover - click has all three
        raise click.UsageError(f"click knows no completion for {shell}")
    root = ctx.find_root().command
    click.echo(found(root, {}, "kernel-runtime", "_KERNEL_RUNTIME_COMPLETE").source())

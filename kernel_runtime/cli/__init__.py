"""The command line: ``kernel-runtime`` and, the same, ``jupyter kernel-runtime``.

Commands are imported when they are called: ``--version`` and shell completion stay quick.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any, NoReturn

import click

from kernel_runtime import __version__
from kernel_runtime.cli import outcome
from kernel_runtime.domain.errors import KernelRuntimeError

#: name → (module, one line for ``--help``)
COMMANDS = {
    "run": ("run", "Run a notebook or a script in a sandboxed guest."),
    "exec": ("execute", "Run a piece of code as one cell in a sandboxed guest."),
    "sessions": ("sessions", "List the live sessions of your kernels and programs."),
    "checkpoints": ("checkpoints", "List, carry and prune what sessions have saved on disk."),
    "check": ("check", "Say what notebooks and scripts would do that a policy speaks about; run nothing."),
    "policy": ("policy", "See which rules grant capabilities, and what an app would get."),
    "secrets": ("secrets", "Keep secrets, sealed, for apps that were granted them."),
    "audit": ("audit", "Read and verify the log of decisions."),
    "doctor": ("doctor", "Try which walls this host can build."),
    "install": ("kernels", "Install the Jupyter kernel, with limits if you like."),
    "uninstall": ("kernels", "Remove an installed kernel."),
    "kernels": ("kernels", "List installed kernels, and whether their Python still exists."),
    "completion": ("completion", "Print the script that makes your shell complete this command."),
}


class Commands(click.Group):
    """Loads a command's module when the command is called, and turns errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"kernel_runtime.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if args and args[0].endswith((".ipynb", ".py")):
                hint = f"{error.message} To run it: {ctx.command_path} run {args[0]}"
                raise click.UsageError(hint, ctx) from None
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KernelRuntimeError as error:
            raise outcome.failed(str(error), outcome.code_of(error)) from None
        except KeyboardInterrupt:
            raise outcome.failed("interrupted", outcome.INTERRUPTED) from None
        except BrokenPipeError:
            _quiet_stdout()
            raise click.exceptions.Exit(outcome.LOST) from None
        except Exception as error:  # noqa: BLE001 — a bug must not look like exit code 1, the user's error
            traceback.print_exc()
            text = f"this is a bug in kernel_runtime, not in your code: {type(error).__name__}: {error}"
            raise outcome.failed(text, outcome.LOST) from None


def _leave_out_a_grammar() -> None:
    """Where it is installed, jsonschema has a grammar of addresses built while it is imported: more than a second
    at each start, for a format that no notebook's schema has. It does without."""
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


def _quiet_stdout() -> None:
    """The reader of our output is gone: let the interpreter flush into nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=outcome.HELP,
)
@click.version_option(__version__, prog_name="kernel-runtime")
def commands() -> None:
    """Run notebook code that you need not trust.

    Every cell runs in a guest: a process behind the operating system's walls, with limits, that
    reaches no file, network or secret of yours unless it was granted.
    """


def main() -> NoReturn:
    """Entry point of the console scripts and of ``python -m kernel_runtime``."""
    _leave_out_a_grammar()
    name = os.path.basename(sys.argv[0])
    prog = "jupyter kernel-runtime" if name.startswith("jupyter-") else "kernel-runtime"
    commands(prog_name=prog)
    raise SystemExit(0)

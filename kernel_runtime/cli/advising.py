"""What the check says of a script or a piece of code, before it runs: as the kernel says of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kernel_runtime.cli.terminal import harmless
from kernel_runtime.jupyter.settings import may_be_read

if TYPE_CHECKING:
    from pathlib import Path

    from kernel_runtime.jupyter.settings import Settings


def advise(source: str, settings: Settings, directory: Path, *, script: bool = False) -> None:
    """Print the findings on stderr; ``CheckRefused`` where the code is not to run in ``directory``.

    ``script``: plain Python, of any length that the check reads, not a cell with magics.
    """
    if not may_be_read(settings, directory):
        return
    from kernel_runtime.jupyter.advice import advice_for

    advice = advice_for(settings.check, settings.policy, settings.level, directory)
    bundle = advice.judge(source, script=script)
    if bundle is not None:
        click.echo(harmless(bundle["text/plain"], colours=False), err=True)

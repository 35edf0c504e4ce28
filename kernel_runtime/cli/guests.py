"""A guest for one piece of code, opened as the command line's settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_runtime.client import Session

if TYPE_CHECKING:
    from pathlib import Path

    from kernel_runtime.jupyter.settings import Settings


def guest_for(
    settings: Settings, *, workdir: Path | None, name: str, manifest: Path | None = None
) -> Session:
    """Not yet open. ``manifest``: where the code's own lies, unless the settings name another."""
    return Session(
        limits=settings.limits,
        level=settings.level,
        rung=settings.rung,
        flood=settings.flood,
        policy=settings.policy,
        manifest=settings.manifest or manifest,
        allow=settings.allow,
        deny=settings.deny,
        workdir=workdir,
        name=name,
        automatic=False,
    )

"""A guest for one piece of code, opened as the command line's settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_runtime.capabilities import Powers
from kernel_runtime.client import Session

if TYPE_CHECKING:
    from pathlib import Path

    from kernel_runtime.jupyter.settings import Settings


def guest_for(
    settings: Settings, *, workdir: Path | None, name: str, manifest: Path | None = None
) -> Session:
    """Not yet open. ``manifest``: where the code's own lies, unless the settings name another. ``Invalid`` where the
    rules that hold are none."""
    check_rules(settings, workdir)
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


def check_rules(settings: Settings, workdir: Path | None) -> None:
    """``Invalid`` where rules that hold for work in ``workdir`` cannot be relied on: told before anything runs, not when
    it first asks."""
    powers = Powers(
        directory="" if workdir is None else str(workdir),
        level=settings.level,
        policy=[settings.policy] if settings.policy else [],
        allow=settings.allow,
        deny=settings.deny,
    )
    powers.held_policy(settings.level)

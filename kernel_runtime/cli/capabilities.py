"""Options by which a command line grants: ``--allow``, ``--deny``, ``--policy``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kernel_runtime.domain.level import Level, parse_level

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.matching import Index
    from kernel_runtime.domain.policy import Policy
    from kernel_runtime.domain.rules import Grant


def capability_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--allow``, ``--deny``, ``--policy`` and ``--level``; read them with ``holding``."""
    options = (
        click.option("--allow", metavar="SCOPE", multiple=True, help="Grant this, like net:api.example.org/GET."),
        click.option("--deny", metavar="SCOPE", multiple=True, help="Deny this, whatever else allows it."),
        click.option("--policy", "files", metavar="FILE", multiple=True,
                     type=click.Path(path_type=Path), help="Rules of a policy file, beside those that hold."),
        click.option("--level", type=click.Choice([str(level) for level in Level], case_sensitive=False),
                     help="At level strict, what rules allow is asked all the same."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def holding(
    options: dict[str, Any], directory: Path, own: Level | None = None
) -> tuple[Index[Grant], Policy]:
    """Take the options out of parsed ones; what they and the files grant and deny in ``directory``.

    ``own``: the level that a manifest asks for; it may only be stricter than the one that was given.
    """
    from kernel_runtime.broker.policies import load_policy
    from kernel_runtime.domain.manifest import Anchors
    from kernel_runtime.domain.policy import given

    said = given(options.pop("allow"), options.pop("deny"), Anchors(str(Path.cwd()), str(Path.home())))
    level = options.pop("level")
    levels = [parse_level(level)] if level else []
    strict = Level.STRICT in (*levels, own)
    policy = load_policy(directory, os.environ, files=options.pop("files"), given=said.source, confirm=strict)
    return said.grants, policy

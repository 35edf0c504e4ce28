"""What a session is opened with."""

from __future__ import annotations

import msgspec

from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.snapshot import Budget, Saving


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """``grace``: seconds a cell may ignore an interrupt; ``flood``: ``cut`` or ``end``; ``notices``:
    warnings of limits are also lines on the cell's stderr; ``blocked``: what strict's language refuses beside its
    own rules. ``snapshots``: what they may take; ``automatic``: whether there is one before each cell.
    ``idle``: seconds in which nothing is asked of it, after which it is paused. ``key``: whose checkpoints its are;
    ``saving``: when they are made by themselves. ``egress``: its ordinary clients find a proxy.
    ``shown_by``: the magic that shows its limits, if any.
    """

    level: Level
    limits: Limits
    workdir: str | None
    cwd: str
    env: dict[str, str]
    arguments: list[str] = []
    name: str = ""
    grace: float = 10.0
    flood: str = "cut"
    notices: bool = True
    snapshots: Budget = Budget()
    automatic: bool = True
    idle: float | None = None
    key: str = ""
    saving: Saving = Saving()
    blocked: list[tuple[str, str, str]] = []
    egress: bool = False
    shown_by: str = ""

"""What a session is opened with."""

from __future__ import annotations

import msgspec

from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """``grace``: seconds a cell may ignore an interrupt; ``flood``: ``cut`` or ``end``; ``notices``:
    warnings are also lines on the cell's stderr; ``blocked``: what strict's language refuses beside its
    own rules.
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
    blocked: list[tuple[str, str, str]] = []

"""Who this kernel says it is: kernel_info and its banner."""

from __future__ import annotations

import functools
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from kernel_runtime import __version__
from kernel_runtime.domain.amounts import show_amount
from kernel_runtime.domain.level import Rung
from kernel_runtime.jupyter.messages import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kernel_runtime.domain.level import Level
    from kernel_runtime.jupyter.settings import Settings

PYTHON = sys.version.split()[0]


def kernel_info(
    settings: Settings, walls: Sequence[str] = (), missing: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Content of ``kernel_info_reply``; only what is true is listed as supported."""
    debugger = has_debugger()
    return {
        "status": "ok",
        "protocol_version": PROTOCOL,
        "implementation": "kernel_runtime",
        "implementation_version": __version__,
        "language_info": {
            "name": "python",
            "version": PYTHON,
            "mimetype": "text/x-python",
            "codemirror_mode": {"name": "ipython", "version": 3},
            "pygments_lexer": "ipython3",
            "nbconvert_exporter": "python",
            "file_extension": ".py",
        },
        "banner": banner(settings, walls, missing),
        "debugger": debugger,
        "help_links": [
            {"text": "Python Reference", "url": f"https://docs.python.org/{PYTHON.rpartition('.')[0]}"},
            {"text": "IPython Reference", "url": "https://ipython.org/documentation.html"},
        ],
        "supported_features": ["debugger"] if debugger else [],
    }


@functools.cache
def has_debugger() -> bool:
    """Whether debugpy is installed: guests live in the same environment."""
    return importlib.util.find_spec("debugpy") is not None


def standing(
    level: Level, walls: Sequence[str], missing: Mapping[str, str], partial: Mapping[str, str]
) -> dict[str, Any]:
    """What a guest stands behind, for records: level, rung, the walls that are missing and the limits that are not held
    exactly; {} for none yet."""
    if not walls:
        return {}
    return {
        "level": str(level),
        "rung": str(_rung(walls)),
        "missing": dict(missing),
        "partial": dict(partial),
    }


def _rung(walls: Sequence[str]) -> Rung:
    return Rung.NAMESPACES if "pid" in walls else Rung.LANDLOCK


def banner(settings: Settings, walls: Sequence[str] = (), missing: Mapping[str, str] | None = None) -> str:
    """What a console prints first: versions, level, walls, memory; or why no cell will run."""
    lines = [f"kernel_runtime {__version__}: Python {PYTHON} in a sandboxed guest"]
    memory = show_amount("memory", settings.limits.memory)
    lines.append(f"Level {settings.level}, memory {memory}; %limits shows what holds")
    if walls:
        lines.append(f"Walls (rung {_rung(walls)}): {', '.join(walls)}")
    lines += [f"Without {wall}: {why}" for wall, why in (missing or {}).items()]
    if settings.error:
        lines.append(f"No cell runs: {settings.error}")
    return "\n".join(lines) + "\n"

"""Jupyter's directories, by its own rules, without importing jupyter_core (40 ms of start)."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def _home(*parts: str) -> Path:
    return Path.home().joinpath(*parts)


def data_dir() -> Path:
    """Where this person's Jupyter data lives (kernels, our history)."""
    if chosen := os.environ.get("JUPYTER_DATA_DIR"):
        return Path(chosen)
    if sys.platform == "darwin":
        return _home("Library", "Jupyter")
    share = os.environ.get("XDG_DATA_HOME")
    return Path(share, "jupyter") if share else _home(".local", "share", "jupyter")


def runtime_dir() -> Path:
    """Where connection files live."""
    chosen = os.environ.get("JUPYTER_RUNTIME_DIR")
    return Path(chosen) if chosen else data_dir() / "runtime"


def config_dirs() -> list[Path]:
    """Where configuration is read, the strongest first."""
    if os.environ.get("JUPYTER_NO_CONFIG"):
        return []
    user = Path(os.environ.get("JUPYTER_CONFIG_DIR") or _home(".jupyter"))
    environment = Path(sys.prefix, "etc", "jupyter")
    given = [Path(p) for p in os.environ.get("JUPYTER_CONFIG_PATH", "").split(os.pathsep) if p]
    pair = [environment, user] if _prefers_environment() else [user, environment]
    return [*given, *pair, Path("/usr/local/etc/jupyter"), Path("/etc/jupyter")]


def _prefers_environment() -> bool:
    chosen = os.environ.get("JUPYTER_PREFER_ENV_PATH")
    if chosen is not None:
        return chosen.lower() not in ("", "0", "no", "n", "false", "off")
    return sys.prefix != sys.base_prefix

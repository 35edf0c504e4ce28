"""What the numbers were taken on, without names or paths."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import psutil

_PACKAGES = (
    "kernel-runtime",
    "ipykernel",
    "ipython",
    "jupyter-client",
    "nbclient",
    "pyzmq",
    "msgspec",
    "pandas",
)


def describe() -> dict[str, object]:
    """CPUs, memory, kernel, Python, packages, and the load when the run began."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory": psutil.virtual_memory().total,
        "machine": platform.machine(),
        "system": platform.system(),
        "kernel": platform.release(),
        "root": os.geteuid() == 0,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

"""Modules that take long to import, imported by whom needs them first."""

from __future__ import annotations

import asyncio
import importlib
import sys


async def imported(name: str) -> None:
    """Import a module beside the loop, which goes on meanwhile; nothing when it is there."""
    if name not in sys.modules:
        await asyncio.to_thread(importlib.import_module, name)

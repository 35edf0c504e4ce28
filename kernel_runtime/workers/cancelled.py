"""A cancellation that arrives: whether it is meant for the task that runs, or for what it waits for."""

from __future__ import annotations

import asyncio


def being_cancelled() -> bool:
    """Whether somebody cancels the task that runs; else only what it waited for has been."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

"""The public Python API: run code in a sandboxed guest from any Python program.

    with kernel_runtime.Session(memory="512M") as session:
        session.run("x = 1 + 1")
        session.value("x")  # 2

``AsyncSession`` is the same with ``await``. Values cross the wall in safe formats only (JSON
values, bytes, numpy arrays, pandas and Arrow tables); nothing from a guest is ever unpickled.
"""

from __future__ import annotations

from kernel_runtime.client.asynchronous import AsyncSession
from kernel_runtime.client.blocking import Session, in_the_loop
from kernel_runtime.result import Output, Result

__all__ = ["AsyncSession", "Output", "Result", "Session", "in_the_loop"]

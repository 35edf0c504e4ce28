"""The audit log kept from growing without bound: its oldest records go into archives by themselves, off every loop."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.store.audit import AuditLog
from kernel_runtime.store.database import Database

if TYPE_CHECKING:
    from pathlib import Path

#: Records that stay in the database, and those of an archive; how often it is looked, in records.
LIVE, ARCHIVED, EVERY = 100_000, 5000, 1000


class Rotation:
    """Of one database. ``thread``: the latest that worked on it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.thread: threading.Thread | None = None

    def written(self, before: int, now: int) -> None:
        """The log's last number was ``before`` and is ``now``; whoever of all processes comes past a thousand looks."""
        if now // EVERY == before // EVERY or now < LIVE + ARCHIVED:
            return
        if self.thread is None or not self.thread.is_alive():
            self.thread = threading.Thread(target=self._rotate, name="audit-rotation", daemon=True)
            self.thread.start()

    def _rotate(self) -> None:
        """What goes wrong (a full disk, another who writes) is tried again a thousand records later."""
        if not self._path.exists():
            return
        with contextlib.suppress(KernelRuntimeError), contextlib.closing(Database(self._path)) as database:
            log = AuditLog(database)
            while log.live() >= LIVE + ARCHIVED:
                log.rotate(LIVE, ARCHIVED)

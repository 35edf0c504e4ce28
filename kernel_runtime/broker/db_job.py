"""One statement in one transaction: run in a thread, ended from another."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from kernel_runtime.broker import db_rows
from kernel_runtime.domain.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from kernel_runtime.broker.db_rows import Rows


class Connection(Protocol):
    """In a transaction that can do what was granted, and nothing else."""

    def execute(self, sql: str, params: dict[str, Any]) -> Rows:
        """Run one statement; refuses more than one."""

    def commit(self) -> None: ...

    def cancel(self) -> None:
        """End what runs, from another thread."""


class Driver(Protocol):
    """Connects to one database."""

    def connect(self, *, writes: bool, seconds: float) -> AbstractContextManager[Connection]:
        """A connection for one statement. It, and all done with it, raises ``KernelRuntimeError`` and nothing else."""


class Job:
    """See the module. ``run`` gives the value and its size."""

    def __init__(
        self,
        *,
        driver: Driver,
        sql: str,
        params: dict[str, Any],
        writes: bool,
        limit: int,
        seconds: float,
        arrow: bool,
    ) -> None:
        self._driver = driver
        self._sql = sql
        self._params = params
        self._writes = writes
        self._limit = limit
        self._seconds = seconds
        self._arrow = arrow
        self._lock = threading.Lock()
        self._cancel: Callable[[], None] | None = None
        self._cancelled = False

    def run(self) -> tuple[Any, int]:
        """In a thread."""
        deadline = time.monotonic() + self._seconds
        with self._driver.connect(writes=self._writes, seconds=self._seconds) as connection:
            self._begin(connection.cancel)
            try:
                rows = connection.execute(self._sql, self._params)
                taken = db_rows.take(rows, self._limit, deadline, to_the_end=self._writes)
                made = db_rows.as_arrow(taken) if self._arrow else db_rows.as_plain(taken)
                if self._writes:
                    self._let_go()  # from here on it is done, whoever gives up
                    connection.commit()
                return made
            finally:
                self._let_go()

    def cancel(self) -> None:
        """From another thread, at any time."""
        with self._lock:
            self._cancelled = True
            if self._cancel is not None:
                with contextlib.suppress(Exception):  # it has just ended by itself, or its server is gone
                    self._cancel()

    def _begin(self, cancel: Callable[[], None]) -> None:
        with self._lock:
            if self._cancelled:
                raise Conflict("nobody waits for it any longer")
            self._cancel = cancel

    def _let_go(self) -> None:
        with self._lock:
            self._cancel = None
            if self._cancelled:
                raise Conflict("nobody waits for it any longer")

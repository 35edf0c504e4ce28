"""PostgreSQL for guests. A read grant is a transaction that the server holds to reading, by a role that can be
named; one statement at a time, by the protocol that takes one only."""

from __future__ import annotations

import contextlib
import itertools
import re
from typing import TYPE_CHECKING, Any

from kernel_runtime.broker import db_values
from kernel_runtime.broker.db_intake import Intake
from kernel_runtime.broker.db_statements import MISSING, bound, driver_said, first_word, parse_url
from kernel_runtime.domain.errors import (
    CapabilityDenied,
    Conflict,
    Invalid,
    KernelRuntimeError,
    OutsideFailed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.broker.db_rows import Rows

_CONNECT_SECONDS = 10
_LOCK_MILLISECONDS = 5000
#: What reads. The transaction holds it to that; this keeps out what a read-only transaction lets happen all the
#: same: COPY to programs, DO, SET, LISTEN, NOTIFY, LOCK.
_READING = {"select", "with", "values", "table", "explain", "show"}
#: Commands that end or change the transaction would leave the rest of the call outside of it.
_NEVER = {
    "abort", "begin", "commit", "copy", "deallocate", "discard", "do", "end", "execute", "listen", "load", "notify",
    "prepare", "release", "reset", "rollback", "savepoint", "set", "start", "unlisten",
}  # fmt: skip
#: What a cursor of the server's can be of; what is written gives rows back only where it says so.
_ANSWERING = {"select", "values", "table"}
_RETURNING = re.compile(r"\breturning\b", re.IGNORECASE)
_BATCH = 50


class Postgres:
    """A server, by its URL. ``role``: what a read grant becomes."""

    def __init__(self, url: str, password: str, role: str) -> None:
        self._psycopg = _library()
        made = parse_url(url).set(drivername="postgresql+psycopg")
        if password:
            made = made.set(password=password)
        from sqlalchemy.dialects.postgresql import psycopg as dialects

        dialect: Any = dialects.PGDialect_psycopg
        self._dialect = dialect()
        self._arguments = self._dialect.create_connect_args(made)
        self._role = role

    @contextlib.contextmanager
    def connect(self, *, writes: bool, seconds: float) -> Iterator[_Connection]:
        """See ``Driver``."""
        raw = self._opened(writes=writes, seconds=seconds)
        # Closed, it rolls back what was not committed.
        with contextlib.closing(raw), contextlib.closing(Intake(raw.pgconn.socket)) as intake:
            raw.wait = lambda steps, *_, **__: intake.wait(steps)
            db_values.bound(raw, self._psycopg)
            with _told(self._psycopg):
                if self._role and not writes:
                    name = self._psycopg.sql.Identifier(self._role)
                    raw.execute(self._psycopg.sql.SQL("SET LOCAL ROLE {}").format(name))
                # The transaction has its first snapshot now: from here on it stays what it is.
                raw.execute("SELECT 1")
                with contextlib.ExitStack() as cursors:
                    yield _Connection(
                        raw, self._dialect, self._psycopg.ProgrammingError, cursors, writes=writes
                    )

    def _opened(self, *, writes: bool, seconds: float) -> Any:
        """Trouble here tells the guest neither where the server is nor who it is asked as."""
        plain, named = self._arguments
        settings = {
            "statement_timeout": int(seconds * 1000),
            "lock_timeout": _LOCK_MILLISECONDS,
            "default_transaction_read_only": "off" if writes else "on",
        }
        options = " ".join(
            [named.get("options", ""), *(f"-c {key}={value}" for key, value in settings.items())]
        )
        arguments = {"connect_timeout": _CONNECT_SECONDS} | named | {"options": options.strip()}
        try:
            raw = self._psycopg.connect(*plain, **arguments)
        except self._psycopg.Error as error:
            raise OutsideFailed(f"the database cannot be reached ({type(error).__name__})") from None
        raw.read_only = not writes
        return raw


class _Connection:
    def __init__(
        self,
        raw: Any,
        dialect: Any,
        no_rows: type[Exception],
        cursors: contextlib.ExitStack,
        *,
        writes: bool,
    ) -> None:
        self._raw = raw
        self._dialect = dialect
        self._writes = writes
        self._no_rows = no_rows
        self._cursors = cursors

    def execute(self, sql: str, params: dict[str, Any]) -> Rows:
        """See ``Connection``."""
        word = first_word(sql)
        if word in _NEVER or not (self._writes or word in _READING):
            what = "writes rows and tables" if self._writes else f"reads ({', '.join(sorted(_READING))})"
            raise CapabilityDenied(f"{word or 'it'}: this grant {what}, and nothing else")
        statement, values = bound(sql, params, self._dialect)
        if word in _ANSWERING or (word == "with" and not self._writes):
            cursor = self._cursors.enter_context(self._raw.cursor("answer"))
            return _Answer(cursor.execute(statement, values), self._cursors.enter_context(self._raw.cursor()))
        may_answer = word == "with" or _RETURNING.search(sql)
        if may_answer and (streamed := self._streamed(statement, values)) is not None:
            return streamed
        # To be prepared a statement goes by the protocol that takes one only, as it does in the other two ways.
        cursor = self._cursors.enter_context(self._raw.cursor())
        return _Rows(cursor.execute(statement, values, prepare=True))

    def _streamed(self, statement: str, values: dict[str, Any]) -> _Streamed | None:
        """None where it gives no rows after all; then nothing of it has happened."""
        cursor = self._cursors.enter_context(self._raw.cursor())
        try:
            return _Streamed(cursor, statement, values)
        except self._no_rows as error:
            if getattr(error, "sqlstate", None) is not None:
                raise
        self._raw.rollback()
        return None

    def commit(self) -> None:
        self._raw.commit()

    def cancel(self) -> None:
        self._raw.cancel_safe(timeout=_CONNECT_SECONDS)


class _Rows:
    """A short answer, or none."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self.columns = [column.name for column in cursor.description or ()]
        self.changed = cursor.rowcount

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._cursor)


class _Answer:
    """What a cursor of the server's fetches in small batches (a large answer is never there as a whole), each row by
    row: one may be as large as ``Intake`` lets it."""

    def __init__(self, answer: Any, cursor: Any) -> None:
        self._cursor = cursor
        self.columns = [column.name for column in answer.description or ()]
        self.changed = 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        count = _BATCH
        while count == _BATCH:
            count = 0
            with contextlib.closing(self._cursor.stream(f"FETCH {_BATCH} FROM answer")) as rows:
                for count, row in enumerate(rows, 1):  # noqa: B007 - how many there were
                    yield row


class _Streamed:
    """Rows that writing gives back, one by one as the server sends them."""

    def __init__(self, cursor: Any, statement: str, values: dict[str, Any]) -> None:
        self._stream = cursor.stream(statement, values)
        first = next(self._stream, None)
        self._first = [] if first is None else [first]
        self.columns = [column.name for column in cursor.description or ()]
        self.changed = 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        with contextlib.closing(self._stream):
            yield from itertools.chain(self._first, self._stream)


def _library() -> Any:
    try:
        import psycopg
    except ImportError:
        raise Invalid(MISSING) from None
    return psycopg


@contextlib.contextmanager
def _told(psycopg: Any) -> Iterator[None]:
    """Every trouble of the server's or the driver's as one of ours."""
    try:
        yield
    except psycopg.Error as error:
        raise _explained(error, psycopg.errors) from None


def _explained(error: Exception, errors: Any) -> KernelRuntimeError:
    said = driver_said(error)
    if isinstance(error, errors.ReadOnlySqlTransaction | errors.InsufficientPrivilege):
        return CapabilityDenied(f"{said}: the grant, or the database's own rights, end here")
    if isinstance(error, errors.QueryCanceled):
        return Conflict("it took longer than it may")
    if isinstance(error, errors.LockNotAvailable):
        return Conflict(
            f"the table is locked: somebody else held it for {_LOCK_MILLISECONDS / 1000:g} s; try again"
        )
    state = getattr(error, "sqlstate", None)
    if state is None or state.startswith(("08", "57P", "53")):
        return OutsideFailed(f"the connection to the database was lost ({type(error).__name__}); try again")
    return Invalid(f"sql: {said}")

"""Databases that the owner has named, queried by the host. Asks for ``db:<name>:<read|write>``.

from kernel_runtime.sdk import db

rows = db.query("sales", "select * from orders where day = :day", {"day": "2026-11-26"})
rows.frame()        # a pandas table
db.execute("sales", "delete from drafts")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.sdk.door import Ask, both, same

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Params = Mapping[str, Any]

__all__ = ["Rows", "aexecute", "aquery", "execute", "query"]


def __dir__() -> list[str]:
    return __all__


class Rows:
    """The answer to a query: ``columns``, and each row as a dict when it is iterated. ``truncated``: there
    were more rows than were asked for, or than fit into an answer."""

    def __init__(self, columns: list[str], rows: list[list[Any]], truncated: bool = False) -> None:
        self.columns = columns
        self.rows = rows
        self.truncated = truncated

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def __repr__(self) -> str:
        more = ", and there are more" if self.truncated else ""
        return f"<{len(self.rows)} rows of {', '.join(self.columns)}{more}>"

    def frame(self) -> Any:
        """A pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=self.columns)


def _answer(value: Any) -> Any:
    """Rows; or, where they come as an Arrow stream, an Arrow table."""
    if isinstance(value, dict) and "columns" in value:
        return Rows(list(value["columns"]), list(value["rows"]), bool(value.get("truncated")))
    data = value.get("arrow") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise Invalid("db: the host's answer is no table")
    import pyarrow as pa

    with pa.ipc.open_stream(data) as stream:
        return stream.read_all()


def _asked(
    name: str, sql: str, params: Params | None, limit: int | None, timeout: float | None
) -> dict[str, Any]:
    given = None if params is None else dict(params)
    seconds = None if timeout is None else float(timeout)
    return {"name": name, "sql": sql, "params": given, "limit": limit, "timeout": seconds}


def _query(
    name: str,
    sql: str,
    params: Params | None = None,
    *,
    limit: int | None = None,
    timeout: float | None = None,
    arrow: bool = False,
) -> Ask[Any]:
    """Read from the database ``name``: ``Rows``, or with ``arrow`` an Arrow table. At most ``limit`` rows."""
    arguments = _asked(name, sql, params, limit, timeout) | {"arrow": arrow or None}
    return Ask("db", "query", arguments, _answer)


def _execute(name: str, sql: str, params: Params | None = None, *, timeout: float | None = None) -> Ask[Any]:
    """Change the database ``name``; what the host says of it (rows that were changed)."""
    return Ask("db", "execute", _asked(name, sql, params, None, timeout), same)


query, aquery = both(_query)
execute, aexecute = both(_execute)

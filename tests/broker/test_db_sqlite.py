"""Granted SQLite databases: read is read, whatever is tried; every call ends, with an answer."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.databases import Database
from kernel_runtime.broker.db import Databases
from kernel_runtime.domain.errors import CapabilityDenied, Conflict, Invalid, KernelRuntimeError, NotFound
from tests.broker.granting import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kernel_runtime.state import State

pytest.importorskip("sqlalchemy")

FOREVER = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sales.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE sales (city TEXT, amount INTEGER, raw BLOB)")
        connection.executemany("INSERT INTO sales VALUES (?, ?, x'00ff')", [("Bonn", 1), ("Köln", 2)])
    connection.close()
    return path


@pytest.fixture
def desk(file: Path, state: State) -> Iterator[Desk]:
    url = f"sqlite:///{file}"
    handler = Databases(
        {"sales": Database(url=url), "ours": Database(url=url), "gone": Database(url=f"{url}-x")}
    )
    yield Desk(handler, state, "db:sales:read", "db:ours:write", "db:gone:read", "db:unknown:read")
    asyncio.run(handler.close())


def rows(file: Path) -> list[Any]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute("SELECT city, amount FROM sales ORDER BY city").fetchall()
    finally:
        connection.close()


BEFORE = [("Bonn", 1), ("Köln", 2)]


def test_rows_are_read_with_parameters(desk: Desk) -> None:
    value = desk.now(
        "query", name="sales", sql="SELECT * FROM sales WHERE city = :city", params={"city": "Bonn"}
    )
    assert value == {
        "columns": ["city", "amount", "raw"],
        "rows": [["Bonn", 1, b"\x00\xff"]],
        "truncated": False,
        "changed": 0,
    }


def test_a_value_is_never_part_of_the_statement(desk: Desk, file: Path) -> None:
    attack = "x'; DELETE FROM sales; --"
    sql = "SELECT count(*) FROM sales WHERE city = :city"
    assert desk.now("query", name="sales", sql=sql, params={"city": attack})["rows"] == [[0]]
    assert rows(file) == BEFORE


def test_rows_are_written_where_that_was_granted(desk: Desk, file: Path) -> None:
    sql = "INSERT INTO sales VALUES (:city, 3, NULL)"
    assert desk.now("execute", name="ours", sql=sql, params={"city": "Aachen"})["changed"] == 1
    assert rows(file) == [("Aachen", 3), *BEFORE]
    returned = desk.now("execute", name="ours", sql="DELETE FROM sales WHERE amount = 3 RETURNING city")
    assert returned["rows"] == [["Aachen"]]
    desk.now("execute", name="ours", sql="CREATE TABLE other (x)")
    many = "INSERT INTO other VALUES (1), (2), (3) RETURNING x"
    assert desk.now("execute", name="ours", sql=many, limit=1)["rows"] == [[1]]
    assert desk.now("execute", name="ours", sql="SELECT count(*) FROM other")["rows"] == [[3]]
    with pytest.raises(Invalid, match="no such table: absent"):
        desk.now("execute", name="ours", sql="INSERT INTO absent VALUES (1)")


WRITING = [
    "INSERT INTO sales VALUES ('x', 1, NULL)",
    "DELETE FROM sales",
    "UPDATE sales SET amount = 0",
    "/* SELECT */ DELETE FROM sales",
    "-- SELECT\nDELETE FROM sales",
    "WITH x AS (SELECT 1) DELETE FROM sales",
    "DROP TABLE sales",
    "ALTER TABLE sales RENAME TO other",
    "CREATE TABLE x (y)",
    "CREATE TEMP TABLE x (y)",
    "PRAGMA user_version = 5",
    "REPLACE INTO sales VALUES ('x', 1, NULL)",
    "ANALYZE",
]
UNTOUCHABLE = [
    "PRAGMA writable_schema = ON",
    "PRAGMA query_only = OFF",
    "PRAGMA journal_mode = WAL",
    "ATTACH '{file}' AS other",
    "ATTACH '{file}-new' AS other",
    "VACUUM INTO '{file}-copy'",
    "SELECT load_extension('/tmp/x')",
    "EXPLAIN SELECT load_extension('/tmp/x')",
    "COMMIT",
    "ROLLBACK",
    "BEGIN",
    "SAVEPOINT a",
    "CREATE VIRTUAL TABLE t USING fts5(x)",
]


@pytest.mark.parametrize("sql", [*WRITING, *UNTOUCHABLE])
def test_a_read_grant_cannot_write(desk: Desk, file: Path, sql: str) -> None:
    before = file.read_bytes()
    with pytest.raises(KernelRuntimeError):
        desk.now("query", name="sales", sql=sql.format(file=file))
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.glob("sales.db*")] == ["sales.db"]


@pytest.mark.parametrize("sql", WRITING)
def test_all_of_that_is_written_without_the_grants_hold(file: Path, sql: str) -> None:
    """The control."""
    before = file.read_bytes()
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute(sql)
        changed = (
            file.read_bytes() != before or connection.execute("SELECT * FROM sqlite_temp_master").fetchall()
        )
        assert changed
    finally:
        connection.close()


@pytest.mark.parametrize("sql", UNTOUCHABLE)
def test_all_of_that_is_done_for_who_opens_the_file(file: Path, sql: str) -> None:
    """The control: it is SQLite that knows these, and nothing but the grants that refuses them."""
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        if sql in ("COMMIT", "ROLLBACK"):
            connection.execute("BEGIN")
        # Whether a library may be loaded is asked when it is; that there is such a function, before.
        asked = f"EXPLAIN {sql}" if sql.startswith("SELECT") else sql
        connection.execute(asked.format(file=file))
    finally:
        connection.close()


@pytest.mark.parametrize("sql", UNTOUCHABLE)
def test_a_write_grant_reaches_nothing_but_its_rows(desk: Desk, file: Path, sql: str) -> None:
    with pytest.raises((CapabilityDenied, Invalid)):
        desk.now("execute", name="ours", sql=sql.format(file=file))
    assert [path.name for path in file.parent.glob("sales.db*")] == ["sales.db"]
    assert rows(file) == BEFORE


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; DELETE FROM sales",
        "SELECT 1 /* ; */ ; DELETE FROM sales",
        "DELETE FROM sales; SELECT 1",
        "INSERT INTO sales VALUES ('x', 1, NULL); INSERT INTO sales VALUES ('y', 1, NULL)",
    ],
)
def test_several_statements_are_none(desk: Desk, file: Path, sql: str) -> None:
    for action, name in (("query", "sales"), ("execute", "ours")):
        with pytest.raises(KernelRuntimeError):
            desk.now(action, name=name, sql=sql)
    assert rows(file) == BEFORE
    connection = sqlite3.connect(file)
    connection.executescript(sql)  # the control
    connection.close()
    assert rows(file) != BEFORE


def test_what_was_not_granted_is_denied(desk: Desk) -> None:
    for action, name in (("execute", "sales"), ("query", "ours"), ("query", "other")):
        with pytest.raises(CapabilityDenied, match="--allow db:"):
            desk.now(action, name=name, sql="SELECT 1")
    with pytest.raises(
        NotFound,
        match=r"there are sales, .*write the table \[unknown\] with url = .* into databases.toml",
    ):
        desk.now("query", name="unknown", sql="SELECT 1")
    with pytest.raises(NotFound):
        desk.now("query", name="gone", sql="SELECT 1")


@pytest.mark.parametrize(
    "arguments",
    [
        {"sql": ""},
        {"sql": 5},
        {"sql": "SELECT 1\0"},
        {"sql": "SELEKT"},
        {"limit": 0},
        {"timeout": 0},
        {"timeout": 1e9},
        {"name": "a*"},
        {"params": [1]},
        {"params": {"unknown": 1}},
        {"sql": "SELECT :a"},
        {"sql": "SELECT :a", "params": {"a": {"b": 1}}},
        {"other": 1},
    ],
)
def test_what_is_asked_wrongly_is_told(desk: Desk, arguments: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        desk.now("query", **{"name": "sales", "sql": "SELECT 1"} | arguments)
    with pytest.raises(Invalid, match="did you mean 'query'"):
        desk.now("querry", name="sales", sql="SELECT 1")


def test_rows_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    many = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 50) SELECT x FROM n"
    value = desk.now("query", name="sales", sql=many, limit=20)
    assert (len(value["rows"]), value["truncated"]) == (20, True)
    value = desk.now("query", name="sales", sql=many, limit=50)
    assert (len(value["rows"]), value["truncated"]) == (50, False)
    monkeypatch.setattr("kernel_runtime.broker.db_rows.MOST_BYTES", 16 * 10)
    value = desk.now("query", name="sales", sql=many)
    assert (len(value["rows"]), value["truncated"]) == (10, True)
    with pytest.raises(Invalid, match=r"too big|too large"):
        desk.now("query", name="sales", sql="SELECT zeroblob(1000000000)")


def test_a_query_without_an_end_has_one(desk: Desk) -> None:
    with pytest.raises(Conflict, match="longer than"):
        desk.now("query", name="sales", sql=FOREVER, timeout=0.2)
    assert desk.now("query", name="sales", sql="SELECT 1")["rows"] == [[1]]


def test_who_gives_up_ends_the_query(desk: Desk) -> None:
    async def story() -> list[str]:
        asking = asyncio.ensure_future(desk("query", name="sales", sql=FOREVER, timeout=250.0))
        while not [t for t in threading.enumerate() if t.name.startswith("db")]:
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        # The one thread there is takes the next call only when it is done with this one.
        return (await desk("query", name="sales", sql="SELECT 1")).value["rows"]

    from concurrent.futures import ThreadPoolExecutor

    desk.handler._threads = ThreadPoolExecutor(1, thread_name_prefix="db")
    assert asyncio.run(story()) == [[1]]


def test_many_at_once_all_get_their_answer(desk: Desk) -> None:
    async def story() -> list[Any]:
        asked = [
            desk("query", name="sales", sql="SELECT :n + 0", params={"n": number}) for number in range(50)
        ]
        return [done.value["rows"] for done in await asyncio.gather(*asked)]

    assert asyncio.run(story()) == [[[number]] for number in range(50)]


def test_a_locked_database_is_told(desk: Desk, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel_runtime.broker.db_sqlite.PATIENCE", 0.05)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for action, name in (("query", "sales"), ("execute", "ours")):
        with pytest.raises(Conflict, match="locked"):
            desk.now(action, name=name, sql="SELECT * FROM sales")
    other.execute("ROLLBACK")
    other.close()
    assert desk.now("query", name="sales", sql="SELECT count(*) FROM sales")["rows"] == [[2]]


def test_what_is_no_database_is_told(desk: Desk, file: Path) -> None:
    file.write_bytes(b"no database at all" * 100)
    with pytest.raises(Conflict, match="cannot be used"):
        desk.now("query", name="sales", sql="SELECT * FROM sales")


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://h/d", "sqlite+other:////x", "nonsense"]
)
def test_other_databases_are_refused(state: State, url: str) -> None:
    handler = Databases({"sales": Database(url=url)})
    with pytest.raises(Invalid):
        Desk(handler, state, "db:sales:read").now("query", name="sales", sql="SELECT 1")
    asyncio.run(handler.close())


def test_rows_as_arrow(desk: Desk) -> None:
    pa = pytest.importorskip("pyarrow")
    data = desk.now("query", name="sales", sql="SELECT city, amount FROM sales", arrow=True, limit=1)
    table = pa.ipc.open_stream(data).read_all()
    assert table.to_pydict() == {"city": ["Bonn"], "amount": [1]}
    assert table.schema.metadata == {b"truncated": b"1"}
    data = desk.now("query", name="sales", sql="SELECT city FROM sales WHERE 0", arrow=True)
    assert pa.ipc.open_stream(data).read_all().num_rows == 0
    for sql in ("SELECT 1 AS a, 2 AS a", "SELECT 1 UNION ALL SELECT 'x'"):
        with pytest.raises(Invalid, match="arrow"):
            desk.now("query", name="sales", sql=sql, arrow=True)


def test_what_python_knows_becomes_plain() -> None:
    import datetime as dt
    import decimal
    import uuid

    from kernel_runtime.broker.db_rows import plain

    day = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert plain(day) == "2026-01-02T03:04:05+00:00"
    assert plain(day.date()) == "2026-01-02"
    assert plain(decimal.Decimal("1.50")) == "1.50"
    assert plain(uuid.UUID(int=1)) == "00000000-0000-0000-0000-000000000001"
    assert plain(2**70) == str(2**70)
    assert plain({"a": [decimal.Decimal(1), memoryview(b"x")]}) == {"a": ["1", b"x"]}


def test_a_row_is_bounded_before_it_is_made(desk: Desk) -> None:
    wide = ", ".join(["zeroblob(30000000)"] * 20)
    with pytest.raises(Invalid, match="too big"):
        desk.now("query", name="sales", sql=f"SELECT {wide}")
    copies = ", ".join(["long"] * 20)
    with pytest.raises(Invalid, match="too big"):
        desk.now("query", name="sales", sql=f"SELECT {copies} FROM (SELECT hex(zeroblob(15000000)) AS long)")
    told = desk.now("query", name="sales", sql="SELECT zeroblob(3000000), hex(zeroblob(2000000))")
    assert [len(value) for value in told["rows"][0]] == [3_000_000, 4_000_000]
    assert desk.now("query", name="sales", sql="EXPLAIN SELECT 1")["columns"][:2] == ["addr", "opcode"]


_SORTS = """
import sys
from kernel_runtime.broker import db_sqlite
from kernel_runtime.broker.db_job import Job
from kernel_runtime.domain.errors import Conflict

db_sqlite.MOST_MEMORY = 32 << 20  # of this process, and for good
url, blob = f"sqlite:///{sys.argv[1]}", "hex(zeroblob(1000000)) || x"

def longest(rows):
    sql = f"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {rows}) SELECT length(b) FROM (SELECT {blob} AS b FROM n ORDER BY b DESC LIMIT {rows})"
    job = Job(driver=db_sqlite.Sqlite(url), sql=sql, params={}, writes=False, limit=100, seconds=60, arrow=False)
    return len(job.run()[0]["rows"])

assert longest(5) == 5
try:
    longest(60)
except Conflict as error:
    print(error)
"""


def test_what_is_sorted_takes_no_more_memory_than_there_is_and_no_disk(file: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _SORTS, str(file)], capture_output=True, text=True)
    assert done.stdout == "it takes more than the 32 MiB that there are for databases\n", done.stderr

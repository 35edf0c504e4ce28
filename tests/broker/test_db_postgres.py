"""Granted PostgreSQL databases, on a real server."""

from __future__ import annotations

import asyncio
import datetime as dt
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.databases import Database
from kernel_runtime.broker.db import Databases
from kernel_runtime.broker.db_intake import Intake
from kernel_runtime.broker.db_postgres import first_word
from kernel_runtime.domain.errors import (
    CapabilityDenied,
    Conflict,
    Invalid,
    KernelRuntimeError,
    OutsideFailed,
)
from tests.broker import server
from tests.broker.granting import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.state import State

psycopg = pytest.importorskip("psycopg")

MAKE = """
DROP TABLE IF EXISTS sales, hidden;
CREATE TABLE sales (city text, amount numeric, day date);
INSERT INTO sales VALUES ('Bonn', 1.50, '2026-01-02'), ('Köln', 2, NULL);
CREATE TABLE hidden (x int);
CREATE OR REPLACE FUNCTION remove() RETURNS int LANGUAGE sql AS 'DELETE FROM sales; SELECT 1';
GRANT SELECT ON sales TO reader;
"""
BEFORE = [("Bonn",), ("Köln",)]


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with server.running() as place:
        with psycopg.connect(host=place, user="boss", dbname="postgres", autocommit=True) as connection:
            connection.execute("CREATE ROLE reader")
        yield place


@pytest.fixture
def boss(host: str) -> Iterator[Any]:
    with psycopg.connect(host=host, user="boss", dbname="postgres", autocommit=True) as connection:
        connection.execute(MAKE)
        yield connection


@pytest.fixture
def desk(host: str, boss: Any, state: State) -> Iterator[Desk]:
    url = f"postgresql://boss@/postgres?host={host}"
    handler = Databases(
        {
            "sales": Database(url=url),
            "ours": Database(url=url),
            "narrow": Database(url=url, role="reader"),
            "wrong": Database(url="postgresql://boss@host:hidden/x"),
            "down": Database(url="postgresql://boss@/postgres?host=/nowhere", secret="PASSWORD"),
        },
        secret=lambda name: b"very secret",
    )
    scopes = ("db:sales:read", "db:narrow:read", "db:ours:write", "db:down:read", "db:wrong:read")
    yield Desk(handler, state, *scopes)
    asyncio.run(handler.close())


def cities(boss: Any) -> list[tuple[str]]:
    return boss.execute('SELECT city FROM sales ORDER BY city COLLATE "C"').fetchall()


def test_rows_are_read_with_parameters(desk: Desk) -> None:
    sql = "SELECT *, '100%' AS p FROM sales WHERE city = :city AND amount < :most"
    value = desk.now("query", name="sales", sql=sql, params={"city": "Bonn", "most": 5})
    assert value == {
        "columns": ["city", "amount", "day", "p"],
        "rows": [["Bonn", "1.50", "2026-01-02", "100%"]],
        "truncated": False,
        "changed": 0,
    }
    assert desk.now("query", name="sales", sql="SELECT 1 WHERE false")["columns"] == ["?column?"]
    assert desk.now("query", name="sales", sql="SHOW transaction_read_only")["rows"] == [["on"]]
    assert desk.now("query", name="sales", sql="EXPLAIN SELECT 1")["rows"]


def test_a_value_is_never_part_of_the_statement(desk: Desk, boss: Any) -> None:
    attack = "x'; DELETE FROM sales; --"
    sql = "SELECT count(*) FROM sales WHERE city = :city"
    assert desk.now("query", name="sales", sql=sql, params={"city": attack})["rows"] == [[0]]
    assert cities(boss) == BEFORE


def test_rows_are_written_where_that_was_granted(desk: Desk, boss: Any) -> None:
    sql = "INSERT INTO sales (city) VALUES (:city)"
    assert desk.now("execute", name="ours", sql=sql, params={"city": "Aachen"})["changed"] == 1
    assert cities(boss) == [("Aachen",), *BEFORE]
    gone = desk.now("execute", name="ours", sql="DELETE FROM sales WHERE city < 'B' RETURNING city")
    assert gone["rows"] == [["Aachen"]]
    moved = "WITH x AS (DELETE FROM sales WHERE day IS NULL RETURNING *) INSERT INTO sales SELECT 'K', 1, day FROM x"
    assert desk.now("execute", name="ours", sql=moved)["changed"] == 1
    assert cities(boss) == [("Bonn",), ("K",)]
    desk.now("execute", name="ours", sql="CREATE TABLE IF NOT EXISTS hidden (x int)")
    assert desk.now("execute", name="ours", sql="SELECT count(*) FROM hidden")["rows"] == [[0]]
    with pytest.raises(CapabilityDenied, match="--allow db:sales:write"):
        desk.now("execute", name="sales", sql="DELETE FROM sales")


WRITING = [
    "DELETE FROM sales",
    "/* SELECT /* 1 */ */ DELETE FROM sales",
    "-- SELECT\nDELETE FROM sales",
    "WITH x AS (DELETE FROM sales RETURNING city) SELECT * FROM x",
    "EXPLAIN ANALYZE DELETE FROM sales",
    "SELECT remove()",
    "DO $$ BEGIN DELETE FROM sales; END $$",
    "TRUNCATE sales",
    "DROP TABLE sales",
]
MULTIPLE = [
    "SELECT 1; DELETE FROM sales",
    "SELECT 1 /* ; */ ; DELETE FROM sales",
    "COMMIT; DELETE FROM sales",
    "SELECT 1; COMMIT; BEGIN READ WRITE; DELETE FROM sales; COMMIT",
    "SET default_transaction_read_only = off; COMMIT; DELETE FROM sales",
]


@pytest.mark.parametrize("sql", [*WRITING, *MULTIPLE])
def test_a_read_grant_cannot_write(desk: Desk, boss: Any, sql: str) -> None:
    with pytest.raises(KernelRuntimeError):
        desk.now("query", name="sales", sql=sql)
    assert boss.execute("SELECT count(*) FROM pg_class WHERE relname = 'sales'").fetchone() == (1,)
    assert cities(boss) == BEFORE


@pytest.mark.parametrize("sql", [*WRITING, *MULTIPLE])
def test_all_of_that_writes_without_the_grants_hold(boss: Any, sql: str) -> None:
    """The control."""
    boss.execute(sql)
    there = boss.execute("SELECT count(*) FROM pg_class WHERE relname = 'sales'").fetchone() == (1,)
    assert not there or cities(boss) == []


@pytest.mark.parametrize("sql", [*WRITING, *MULTIPLE])
def test_the_server_holds_it_even_if_no_word_were_refused(
    desk: Desk, boss: Any, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    monkeypatch.setattr("kernel_runtime.broker.db_postgres.first_word", lambda sql: "explain")
    with pytest.raises(KernelRuntimeError):
        desk.now("query", name="sales", sql=sql)
    assert cities(boss) == BEFORE


@pytest.mark.parametrize(
    "sql",
    [
        "SET TRANSACTION READ WRITE",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "DO $$ BEGIN PERFORM set_config('transaction_read_only', 'off', true); DELETE FROM sales; END $$",
    ],
)
def test_the_transaction_stays_what_it_is(
    desk: Desk, boss: Any, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    monkeypatch.setattr("kernel_runtime.broker.db_postgres.first_word", lambda sql: "explain")
    with pytest.raises(KernelRuntimeError, match="read-write mode"):
        desk.now("query", name="sales", sql=sql)
    assert cities(boss) == BEFORE


@pytest.mark.parametrize(
    "sql",
    [
        "COPY sales TO PROGRAM 'cat > /tmp/x'",
        "COMMIT",
        "SET ROLE boss",
        "DO $$ BEGIN END $$",
        "NOTIFY a",
        "LISTEN a",
        "PREPARE x AS SELECT 1",
        "",
        "/* nothing",
    ],
)
def test_some_commands_are_nobodys(desk: Desk, sql: str) -> None:
    for action, name in (("query", "sales"), ("execute", "ours")):
        with pytest.raises((CapabilityDenied, Invalid)):
            desk.now(action, name=name, sql=sql)


def test_several_statements_are_none_under_a_write_grant(desk: Desk, boss: Any) -> None:
    for sql in ("INSERT INTO sales (city) VALUES ('a'); COMMIT", "UPDATE sales SET city = 'a'; SELECT 1"):
        with pytest.raises(KernelRuntimeError):
            desk.now("execute", name="ours", sql=sql)
    assert cities(boss) == BEFORE


def test_a_role_narrows_what_a_read_grant_sees(desk: Desk) -> None:
    assert desk.now("query", name="sales", sql="SELECT count(*) FROM hidden")["rows"] == [[0]]  # the control
    assert desk.now("query", name="narrow", sql="SELECT count(*) FROM sales")["rows"] == [[2]]
    with pytest.raises(CapabilityDenied, match="permission denied for table hidden"):
        desk.now("query", name="narrow", sql="SELECT count(*) FROM hidden")


def test_nothing_stays_set_for_the_next_call(desk: Desk) -> None:
    desk.now("query", name="sales", sql="SELECT set_config('work_mem', '1MB', false)")
    assert desk.now("query", name="sales", sql="SHOW work_mem")["rows"] != [["1MB"]]


def test_rows_are_bounded_and_a_long_answer_is_not_fetched(desk: Desk) -> None:
    sql = "SELECT generate_series(1, 1000000000), repeat('y', 1000)"
    value = desk.now("query", name="sales", sql=sql, limit=20)
    assert (len(value["rows"]), value["truncated"]) == (20, True)


def test_what_was_written_is_written_however_little_of_it_is_shown(desk: Desk, boss: Any) -> None:
    sql = "INSERT INTO hidden SELECT generate_series(1, 5000) RETURNING x"
    value = desk.now("execute", name="ours", sql=sql, limit=20)
    assert (len(value["rows"]), value["truncated"]) == (20, True)
    assert boss.execute("SELECT count(*) FROM hidden").fetchone() == (5000,)


def test_a_query_without_an_end_has_one(desk: Desk) -> None:
    with pytest.raises(Conflict, match="longer than"):
        desk.now("query", name="sales", sql="SELECT pg_sleep(250)", timeout=0.2)


def test_who_gives_up_ends_the_query(desk: Desk, boss: Any) -> None:
    running = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"

    async def story() -> None:
        asking = asyncio.ensure_future(desk("query", name="sales", sql="SELECT pg_sleep(251)", timeout=280.0))
        while boss.execute(running).fetchone() == (0,):
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while boss.execute(running).fetchone() != (0,):
            await asyncio.sleep(0.01)

    asyncio.run(story())


def test_a_lock_and_a_lost_connection_are_told(
    desk: Desk, boss: Any, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernel_runtime.broker.db_postgres._LOCK_MILLISECONDS", 50)
    with psycopg.connect(host=host, user="boss", dbname="postgres") as other:
        other.execute("LOCK TABLE sales")
        with pytest.raises(Conflict, match="locked"):
            desk.now("query", name="sales", sql="SELECT * FROM sales")
    with pytest.raises(OutsideFailed, match="connection to the database was lost"):
        desk.now("query", name="sales", sql="SELECT pg_terminate_backend(pg_backend_pid())")
    assert desk.now("query", name="sales", sql="SELECT 1")["rows"] == [[1]]


def test_an_unreachable_server_tells_neither_where_nor_as_whom(desk: Desk) -> None:
    with pytest.raises(Invalid, match=r"cannot be read; see databases\.toml"):
        desk.now("query", name="wrong", sql="SELECT 1")
    with pytest.raises(OutsideFailed) as caught:
        desk.now("query", name="down", sql="SELECT 1")
    assert "cannot be reached" in str(caught.value)
    for word in ("nowhere", "boss", "secret"):
        assert word not in str(caught.value)


def test_rows_as_arrow_keep_their_types(desk: Desk) -> None:
    pa = pytest.importorskip("pyarrow")
    data = desk.now("query", name="sales", sql="SELECT amount, day FROM sales ORDER BY 1", arrow=True)
    table = pa.ipc.open_stream(data).read_all()
    assert table.column("day").to_pylist() == [dt.date(2026, 1, 2), None]
    assert pa.types.is_decimal(table.schema.field("amount").type)


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("select 1", "select"),
        ("  ( (SELECT 1))", "select"),
        ("-- insert\n Select", "select"),
        ("/* a /* b */ delete */ with", "with"),
        ("/**/--\n/* x */drop", "drop"),
        ("/* never ends select", ""),
        (";select", ""),
        ("", ""),
    ],
)
def test_the_first_word_is_what_the_server_reads(sql: str, word: str) -> None:
    assert first_word(sql) == word


@pytest.mark.parametrize("name, action", [("sales", "query"), ("ours", "execute")])
@pytest.mark.parametrize("lead", ["", "WITH one AS (SELECT 1) "])
def test_large_rows_are_not_here_all_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str, action: str, lead: str
) -> None:
    """What is left of an answer that is cut short is never received: its rows would not fit."""
    seen: list[int] = []
    monkeypatch.setattr(
        "kernel_runtime.broker.db_rows._weights", lambda row: seen.append(resident()) or 1 << 30
    )
    before = resident()
    sql = f"{lead}SELECT repeat('x', 16000000) FROM generate_series(1, 12)"
    told = desk.now(action, name=name, sql=sql)
    assert (told["rows"], told["truncated"]) == ([], True)
    assert seen[0] - before < 100 << 10  # KiB: three of the twelve, and not all


def resident() -> int:
    """The memory that this process has now, in KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * (resource.getpagesize() >> 10)


#: Ways to have the server send 4 MB in one piece.
LARGE = {
    "a row": ("query", "SELECT repeat('x', 4000000)"),
    "a row of many columns": ("query", f"SELECT {', '.join(['repeat($$x$$, 1000000)'] * 4)}"),
    "a plan": ("query", "EXPLAIN VERBOSE SELECT repeat('x', 4000000)"),
    "an error": ("query", "SELECT repeat('x', 4000000)::int"),
    "what was written": ("execute", "INSERT INTO sales VALUES (repeat('x', 4000000)) RETURNING city"),
    "what was written along the way": (
        "execute",
        "WITH a AS (INSERT INTO sales VALUES ('a') RETURNING 1) SELECT repeat('x', 4000000) FROM a",
    ),
    "an answer to a statement": ("execute", "EXPLAIN VERBOSE SELECT repeat('x', 4000000)"),
}


@pytest.mark.parametrize("how", LARGE)
def test_what_the_server_sends_in_one_piece_is_bounded(
    desk: Desk, boss: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """libpq would have taken it whole."""
    taken: list[int] = []
    received = Intake._received

    def counted(intake: Intake) -> bytes:
        try:
            return received(intake)
        finally:
            taken.append(intake._taken)

    monkeypatch.setattr(Intake, "_received", counted)
    monkeypatch.setattr("kernel_runtime.broker.db_intake.MOST_AT_A_TIME", 1_000_000)
    action, sql = LARGE[how]
    name = "sales" if action == "query" else "ours"
    with pytest.raises(Invalid, match="ask for a part"):
        desk.now(action, name=name, sql=sql)
    assert 1_000_000 < max(taken) <= 1_000_000 + (1 << 16)
    assert cities(boss) == BEFORE
    within = sql.replace("4000000", "100000").replace("1000000", "10000")  # the control
    if how != "an error":
        assert desk.now(action, name=name, sql=within)["rows"]


def test_many_rows_are_more_than_one_may_be(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted for each anew, also where they are written."""
    monkeypatch.setattr("kernel_runtime.broker.db_intake.MOST_AT_A_TIME", 1_000_000)
    rows = "SELECT repeat('x', 300000) FROM generate_series(1, 30)"
    assert len(desk.now("query", name="sales", sql=rows)["rows"]) == 30
    told = desk.now("execute", name="ours", sql=f"INSERT INTO sales {rows} RETURNING city")
    assert len(told["rows"]) == 30


def test_large_parameters_go_as_they_went(desk: Desk) -> None:
    sql = "SELECT length(:text), md5(:text) = md5(repeat('y', 9000000)), :text"
    row = desk.now("query", name="sales", sql=sql, params={"text": "y" * 9_000_000})["rows"][0]
    assert row == [9_000_000, True, "y" * 9_000_000]


@pytest.mark.parametrize(
    "value",
    [
        "10::numeric ^ 100000",
        "(SELECT array_agg(n) FROM generate_series(1, 2000) n)",
        "(SELECT array_agg(n::numeric) FROM generate_series(1, 2000) n)",
        "(SELECT jsonb_agg(n) FROM generate_series(1, 2000) n)",
    ],
)
def test_every_kind_of_value_weighs_what_it_takes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setattr("kernel_runtime.broker.db_rows.MOST_BYTES", 200_000)
    sql = f"SELECT {value} FROM generate_series(1, 50)"
    told = desk.now("query", name="sales", sql=sql)
    assert told["truncated"]
    assert 1 <= len(told["rows"]) < 20


@pytest.mark.parametrize(
    "value",
    [
        "array_agg(1::numeric)",
        "array_agg('ab'::text)",
        "jsonb_agg(1)",
        "json_agg('[]'::json)",
        "array_agg(point(1, 1))",
    ],
)
def test_a_row_of_very_many_values_is_none(desk: Desk, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Each takes more memory here than it does on its way."""
    monkeypatch.setattr("kernel_runtime.broker.db_values.MOST_VALUES", 1000)
    sql = f"SELECT {value} FROM generate_series(1, :many)"
    with pytest.raises(Invalid, match="values"):
        desk.now("query", name="sales", sql=sql, params={"many": 1500})
    (found,) = desk.now("query", name="sales", sql=sql, params={"many": 400})["rows"][0]
    assert len(found) == 400


def test_a_value_nested_too_deep_is_told(desk: Desk) -> None:
    sql = "SELECT (repeat('[', 5000) || repeat(']', 5000))::json"
    with pytest.raises(Invalid, match="nested too deep"):
        desk.now("query", name="sales", sql=sql)
    assert desk.now("query", name="sales", sql=sql.replace("5000", "5"))["rows"] == [[[[[[[]]]]]]]

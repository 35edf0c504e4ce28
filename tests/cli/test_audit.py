"""``kernel-runtime audit``: verified, listed, exported, archived."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.audit import FIELDS, Entry
from kernel_runtime.state import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five records, in a state of their own."""
    monkeypatch.setenv("KERNEL_RUNTIME_STATE", str(tmp_path / "state"))
    with State() as state:
        for number in range(5):
            with state.ledger.turn() as turn:
                entry = Entry(
                    event="decision",
                    app="ab"[number % 2],
                    capability="net",
                    resource=f"x{number}.org",
                    decision="deny",
                )
                turn.append(entry, 1000.0 + number)


def harm(tmp_path: Path, *statements: str) -> None:
    connection = sqlite3.connect(tmp_path / "state" / "state.db")
    for statement in ("DROP TRIGGER audit_is_not_changed", "DROP TRIGGER audit_is_not_deleted", *statements):
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_verify_says_whether_it_is_whole(invoke: Invoke, tmp_path: Path) -> None:
    whole = invoke("audit", "verify")
    assert whole.exit_code == 0
    head = re.search(r"head (\S+)", whole.stdout)
    assert head is not None
    harm(tmp_path, "DELETE FROM audit WHERE number = 2")
    broken = invoke("audit", "verify")
    assert broken.exit_code == 1
    assert "record 3: record 2 is missing before it" in broken.stdout
    harmless = invoke("audit", "verify", "--noted", "nonsense")
    assert harmless.exit_code == 2


def test_verify_compares_with_a_noted_head(invoke: Invoke, tmp_path: Path) -> None:
    found = re.search(r"head (\S+)", invoke("audit", "verify").stdout)
    assert found is not None
    assert invoke("audit", "verify", "--noted", found[1]).exit_code == 0
    harm(
        tmp_path,
        "DELETE FROM audit WHERE number > 3",
        "UPDATE audit_head SET number = 3, hash = (SELECT hash FROM audit WHERE number = 3)",
    )
    assert invoke("audit", "verify").exit_code == 0
    rewritten = invoke("audit", "verify", "--noted", found[1])
    assert rewritten.exit_code == 1
    assert "the log was rewritten" in rewritten.stdout


def test_list_shows_the_newest_last(invoke: Invoke) -> None:
    shown = invoke("audit", "list", "--last", "2").stdout
    assert "net:x2.org" not in shown
    assert shown.index("net:x3.org") < shown.index("net:x4.org")
    assert "net:x1.org" not in invoke("audit", "list", "--app", "a").stdout
    assert invoke("audit", "list", "--since", "1h").stdout == "no records\n"


def test_a_span_of_days_is_one(invoke: Invoke) -> None:
    for span in ("1d", "2w"):
        assert invoke("audit", "list", "--since", span).output == "no records\n"
    assert "ms, s, m, h, d or w" in invoke("audit", "list", "--since", "1y").output
    assert invoke("policy", "suggest", "--since", "1d").exit_code == 0


@pytest.mark.parametrize(
    ("option", "known"), [("--decision", "'allow', 'ask', 'deny'"), ("--event", "'answered'")]
)
def test_a_decision_that_there_is_not_is_refused_with_those_there_are(
    invoke: Invoke, option: str, known: str
) -> None:
    for command in ("list", "export"):
        result = invoke("audit", command, option, "maybe")
        assert result.exit_code == 2
        assert known in result.output
    assert "x4.org" in invoke("audit", "list", "--decision", "deny", "--event", "decision").output


def test_nothing_is_cut_for_another_program(invoke: Invoke) -> None:
    host = ".".join(["long"] * 40)
    with State() as state, state.ledger.turn() as turn:
        turn.append(
            Entry(event="decision", capability="net", resource=f"{host}\x1b[31m", decision="deny"), 2000.0
        )
    (line,) = [line for line in invoke("audit", "list").output.splitlines() if host in line]
    assert line.split()[-2:] == [f"net:{host}", "deny"]
    assert "\x1b" not in line


def test_export_for_programs(invoke: Invoke) -> None:
    lines = invoke("audit", "export", "--app", "b").stdout.splitlines()
    assert [json.loads(line)["resource"] for line in lines] == ["x1.org", "x3.org"]
    rows = list(csv.DictReader(io.StringIO(invoke("audit", "export", "--format", "csv").stdout)))
    assert len(rows) == 5
    assert set(rows[0]) == set(FIELDS)


def test_a_spreadsheet_gets_no_formula(invoke: Invoke) -> None:
    with State() as state, state.ledger.turn() as turn:
        turn.append(Entry(event="decision", app='=HYPERLINK("x")'), 2000.0)
    rows = list(csv.DictReader(io.StringIO(invoke("audit", "export", "--format", "csv").stdout)))
    assert rows[-1]["app"] == '\'=HYPERLINK("x")'


def test_rotate_moves_and_all_brings_back(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("audit", "rotate", "--keep", "2").stdout.startswith("3 records moved to")
    assert invoke("audit", "rotate", "--keep", "2").stdout == "nothing to move\n"
    assert len(invoke("audit", "export").stdout.splitlines()) == 2
    assert invoke("audit", "export", "--all", "-o", "all.jsonl").exit_code == 0
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 5
    assert invoke("audit", "export", "--all", "-o", "all.jsonl").exit_code == 2
    assert invoke("audit", "export", "--all", "--app", "a").exit_code == 2
    assert "2 records and 3 in archives" in invoke("audit", "verify").stdout


def test_archives_that_have_grown_are_told_of_and_stay(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("audit", "rotate", "--keep", "2").stderr == ""  # the control
    monkeypatch.setattr("kernel_runtime.cli.audit._MUCH", 500)
    for command in (["list"], ["verify"], ["rotate"]):
        done = invoke("audit", *command)
        assert done.exit_code == 0
        assert "1 archive in" in done.stderr
    assert "3 in archives" in invoke("audit", "verify").stdout


def test_a_state_that_others_can_read_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "state" / "state.db").chmod(0o644)
    done = invoke("audit", "verify")
    assert done.exit_code == 2
    assert "chmod 600" in done.stderr


def test_a_damaged_state_is_told(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "state" / "state.db").write_bytes(b"nothing that is a database" * 1000)
    done = invoke("audit", "list")
    assert done.exit_code == 5
    assert "damaged" in done.stderr

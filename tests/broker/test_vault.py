"""Secrets: sealed on disk, opened for who holds the key, gone when they are said to be."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.domain.errors import Conflict, Invalid, NotFound
from kernel_runtime.state import State

if TYPE_CHECKING:
    from pathlib import Path

    from kernel_runtime.broker.vault import Vault

VALUE, OTHER = b"hunter2hunter2", b"correct horse"


class Time:
    """Both clocks, moved by tests."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def vault(state: State, time: Time) -> Vault:
    return state.vault(now=time, ticks=time)


def sql(tmp_path: Path, statement: str, *values: Any) -> list[Any]:
    connection = sqlite3.connect(tmp_path / "state" / "state.db")
    rows = connection.execute(statement, values).fetchall()
    connection.commit()
    connection.close()
    return rows


def on_disk(tmp_path: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())


def test_what_is_kept_comes_back_and_is_nowhere_to_be_read(vault: Vault, tmp_path: Path) -> None:
    assert vault.set("KEY", VALUE) == 1
    assert vault.get("KEY") == VALUE
    assert b"KEY" in on_disk(tmp_path)  # the control: it would be found
    assert VALUE not in on_disk(tmp_path)


def test_changes_are_in_the_audit_log_and_values_are_not(vault: Vault, state: State) -> None:
    vault.set("KEY", VALUE)
    vault.rotate("KEY", OTHER)
    vault.rotate_master()
    vault.remove("KEY")
    shown = [(record.capability, record.resource, record.rule) for record in state.audit.records()]
    assert shown == [
        ("secret", "KEY", "set"),
        ("secret", "KEY", "rotated"),
        ("secret", "*", "wrapped anew"),
        ("secret", "KEY", "removed"),
    ]
    assert "hunter2" not in str(list(state.audit.records()))
    assert next(iter(state.audit.records())).principal == state.principal


def test_a_name_is_given_once(vault: Vault) -> None:
    vault.set("KEY", VALUE)
    with pytest.raises(Conflict, match="rotate KEY"):
        vault.set("KEY", OTHER)
    assert vault.get("KEY") == VALUE


def test_rotation_ends_the_versions_before_it(vault: Vault, time: Time, tmp_path: Path) -> None:
    vault.set("KEY", VALUE)
    assert vault.rotate("KEY", OTHER, grace=60.0) == 2
    assert (vault.get("KEY"), vault.get("KEY", 1)) == (OTHER, VALUE)
    assert vault.listing()[0].older == (1,)
    time.now += 60.0
    with pytest.raises(NotFound, match="version 1"):
        vault.get("KEY", 1)
    assert vault.listing()[0].older == ()
    vault.rotate("KEY", VALUE)
    assert sql(tmp_path, "SELECT version FROM secrets") == [(3,)]


def test_what_is_removed_is_gone(vault: Vault, tmp_path: Path) -> None:
    vault.set("KEY", VALUE)
    vault.get("KEY")
    vault.remove("KEY")
    assert sql(tmp_path, "SELECT * FROM secrets") == []
    for call in (vault.get, vault.remove):
        with pytest.raises(NotFound):
            call("KEY")
    with pytest.raises(NotFound, match="set it first"):
        vault.rotate("KEY", VALUE)


def test_an_opened_value_is_kept_no_longer_than_its_time(vault: Vault, time: Time, tmp_path: Path) -> None:
    vault.set("KEY", VALUE)
    assert vault.get("KEY") == VALUE
    (tmp_path / "state" / "master.key").rename(tmp_path / "hidden")
    time.now += 59.0
    assert vault.get("KEY") == VALUE
    time.now += 2.0
    with pytest.raises(NotFound, match="no master key"):
        vault.get("KEY")


def test_what_another_process_rotated_is_not_served(vault: Vault, tmp_path: Path) -> None:
    vault.set("KEY", VALUE)
    assert vault.get("KEY") == VALUE
    with State(tmp_path / "state") as other:
        other.vault().rotate("KEY", OTHER)
    assert vault.get("KEY") == OTHER


def test_what_was_opened_is_overwritten_when_it_is_forgotten(vault: Vault) -> None:
    vault.set("KEY", VALUE)
    vault.get("KEY")
    ((_, opened),) = vault._opened.values()
    vault.forget()
    assert opened == bytes(len(VALUE))


@pytest.mark.parametrize(
    "statement",
    [
        # Another last byte than there is: one of the two differs from it.
        (
            "UPDATE secrets SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) || "
            "CASE substr(sealed, -1) WHEN x'00' THEN x'01' ELSE x'00' END AS BLOB)"
        ),
        (
            "UPDATE secrets SET wrapped = CAST(substr(wrapped, 1, length(wrapped) - 1) || "
            "CASE substr(wrapped, -1) WHEN x'00' THEN x'01' ELSE x'00' END AS BLOB)"
        ),
        "UPDATE secrets SET sealed = x''",
        "UPDATE secrets SET name = 'STOLEN' WHERE name = 'KEY'",
        "UPDATE secrets SET version = 7 WHERE name = 'KEY'",
    ],
)
def test_a_row_that_was_changed_or_moved_does_not_open(vault: Vault, tmp_path: Path, statement: str) -> None:
    vault.set("KEY", VALUE)
    sql(tmp_path, statement)
    name = "STOLEN" if "STOLEN" in statement else "KEY"
    with pytest.raises(Invalid, match="does not open"):
        vault.get(name)


def test_another_master_key_does_not_open(vault: Vault, tmp_path: Path) -> None:
    vault.set("KEY", VALUE)
    key = tmp_path / "state" / "master.key"
    key.write_text("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n")
    with pytest.raises(NotFound, match="that sealed this is not in"):
        vault.get("KEY")


def test_a_new_master_key_wraps_everything_and_the_old_one_is_gone(vault: Vault, tmp_path: Path) -> None:
    vault.set("KEY", VALUE)
    vault.rotate("KEY", OTHER, grace=60.0)
    key = tmp_path / "state" / "master.key"
    before, rows = key.read_text(), sql(tmp_path, "SELECT key, sealed FROM secrets")
    assert vault.rotate_master() == 2
    after = sql(tmp_path, "SELECT key, sealed FROM secrets")
    assert {row[0] for row in rows}.isdisjoint({row[0] for row in after})
    assert [row[1] for row in rows] == [row[1] for row in after]  # wrapped again, not sealed again
    assert before.strip() not in key.read_text()
    assert key.stat().st_mode & 0o777 == 0o600
    assert (vault.get("KEY"), vault.get("KEY", 1)) == (OTHER, VALUE)


def test_a_master_key_exchange_that_was_interrupted_loses_nothing(
    vault: Vault, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.set("KEY", VALUE)
    monkeypatch.setattr(type(vault), "_rewrapped", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        vault.rotate_master()
    monkeypatch.undo()
    fresh = state.vault()
    assert fresh.get("KEY") == VALUE
    assert fresh.rotate_master() == 1
    assert fresh.get("KEY") == VALUE


def test_what_is_no_secret_is_told(vault: Vault) -> None:
    for name, value, said in (
        ("a/b", VALUE, "no name"),
        ("", VALUE, "no name"),
        ("PIN", b"12345", "fewer than 6 bytes"),
        ("BIG", bytes(64 * 1024 + 1), "more than 64 KB"),
    ):
        with pytest.raises(Invalid, match=said):
            vault.set(name, value)


def test_every_version_is_redacted(vault: Vault) -> None:
    vault.set("KEY", VALUE)
    vault.rotate("KEY", OTHER, grace=60.0)
    vault.set("ELSE", b"something else")
    text = vault.redactor().text(f"{VALUE.decode()} {OTHER.decode()} something else")
    assert text == "[secret KEY] [secret KEY] [secret ELSE]"

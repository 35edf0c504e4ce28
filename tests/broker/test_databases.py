"""Which databases there are: the operator's file, which nobody else can have written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker.databases import Database, load_databases, parse_databases, shown_place, table_for
from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path


def place(tmp_path: Path, who: str, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / who / "kernel-runtime" / "databases.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(mode)
    return path.parent / "policy.toml"


def test_a_list_is_read() -> None:
    text = '[sales]\nurl = "postgresql://r@h/s"\nsecret = "PASSWORD"\nrole = "reader"\n[b-2]\nurl = "sqlite:////x.db"'
    assert parse_databases(text, "d.toml") == {
        "sales": Database(url="postgresql://r@h/s", secret="PASSWORD", role="reader"),
        "b-2": Database(url="sqlite:////x.db"),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sales]\nurl = 5", r"d.toml:2"),
        ("[sales]\nsecret = 'x'", "url"),
        ("[sales]\nurl = 'x'\nurll = 'y'", "no key is called 'urll'"),
        ("['a b']\nurl = 'x'", "is called by"),
        ("[sales", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        parse_databases(text, "d.toml")


def test_the_machines_list_goes_before_the_persons(tmp_path: Path) -> None:
    system = place(tmp_path, "etc", "[a]\nurl = 'sqlite:////machine.db'")
    place(tmp_path, "config", "[a]\nurl = 'sqlite:////mine.db'\n[b]\nurl = 'sqlite:////b.db'")
    found = load_databases({"XDG_CONFIG_HOME": str(tmp_path / "config")}, system=system)
    assert {name: database.url for name, database in found.items()} == {
        "a": "sqlite:////machine.db",
        "b": "sqlite:////b.db",
    }
    nowhere = {"XDG_CONFIG_HOME": str(tmp_path / "none")}
    assert load_databases(nowhere, system=tmp_path / "none" / "policy.toml") == {}


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("[a]\nurl = 'sqlite:////a.db'", 0o666, "other users may write"),
        ("[a]\nurl = 'postgresql://r:word@h/s'", 0o644, "others may read this password"),
    ],
)
def test_a_list_that_cannot_be_relied_on_is_refused(tmp_path: Path, text: str, mode: int, said: str) -> None:
    place(tmp_path, "config", text, mode)
    with pytest.raises(Invalid, match=said):
        load_databases({"XDG_CONFIG_HOME": str(tmp_path / "config")}, system=tmp_path / "x" / "policy.toml")


def test_where_a_database_is_named_is_said_without_a_path_of_the_host() -> None:
    assert shown_place({}) == "~/.config/kernel-runtime/databases.toml"
    assert shown_place({"XDG_CONFIG_HOME": "/home/ann/c"}) == "$XDG_CONFIG_HOME/kernel-runtime/databases.toml"
    for name in ("sales", "sales-eu", "sales.eu"):
        assert list(parse_databases(f'{table_for(name)}\nurl = "sqlite:///x"', "d.toml")) == [name]

"""Master keys: where they are looked for, and who may have seen them."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker.master import VARIABLE, InFile, InKeyring, MasterKeys, key_id, sources
from kernel_runtime.domain.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO = bytes(range(32)), bytes(range(32, 64))


def text(*keys: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in keys)


class Desktop:
    """What is used of the library ``keyring``, in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, user: str) -> str | None:
        return self.kept.get((service, user))

    def set_password(self, service: str, user: str, password: str) -> None:
        self.kept[service, user] = password


@pytest.fixture
def desktop(monkeypatch: pytest.MonkeyPatch) -> Desktop:
    made = Desktop()
    monkeypatch.setattr("kernel_runtime.broker.master._keyring", lambda: made)
    return made


@pytest.fixture
def no_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel_runtime.broker.master._keyring", lambda: None)


@pytest.mark.usefixtures("no_desktop")
def test_a_key_is_made_once_in_a_private_file(tmp_path: Path) -> None:
    place = tmp_path / "state"
    made = MasterKeys(sources({}, place)).ensure()
    assert len(made) == 32
    assert MasterKeys(sources({}, place)).ensure() == made
    assert (place / "master.key").stat().st_mode & 0o777 == 0o600


def test_the_environment_comes_first_and_the_last_key_seals(desktop: Desktop, tmp_path: Path) -> None:
    InKeyring(desktop).write([os.urandom(32)])
    keys = MasterKeys(sources({VARIABLE: text(ONE, TWO)}, tmp_path))
    assert keys.current() == TWO
    assert keys.named(key_id(ONE)) == ONE
    assert not keys.writable
    with pytest.raises(Conflict, match="behind the old one"):
        keys.add()
    with pytest.raises(NotFound, match="is not in the variable"):
        keys.named("0" * 16)


def test_a_keyring_takes_the_key_where_there_is_one(desktop: Desktop, tmp_path: Path) -> None:
    made = MasterKeys(sources({}, tmp_path)).ensure()
    assert list(desktop.kept.values()) == [text(made)]
    assert not (tmp_path / "master.key").exists()


def test_a_file_that_is_there_stays_the_place(desktop: Desktop, tmp_path: Path) -> None:
    InFile(tmp_path / "master.key").write([ONE])
    assert MasterKeys(sources({}, tmp_path)).current() == ONE
    assert desktop.kept == {}


@pytest.mark.usefixtures("no_desktop")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = InFile(tmp_path / "master.key")
    file.write([ONE])
    assert file.read() == [ONE]
    file.path.chmod(mode)
    with pytest.raises(Invalid, match="nobody else can read"):
        file.read()


@pytest.mark.usefixtures("no_desktop")
def test_a_link_is_no_key(tmp_path: Path) -> None:
    InFile(tmp_path / "elsewhere").write([ONE])
    (tmp_path / "master.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Invalid):
        InFile(tmp_path / "master.key").read()


@pytest.mark.parametrize("wrong", ["short", text(ONE)[:-4], text(ONE + TWO), "ä"])
def test_what_is_no_key_is_told(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(Invalid, match="32 bytes in base64"):
        MasterKeys(sources({VARIABLE: wrong}, tmp_path)).current()


def test_the_name_of_a_key_does_not_tell_it() -> None:
    assert ONE.hex()[:16] != key_id(ONE)
    assert key_id(ONE) != key_id(TWO)

"""Approved scopes in a policy file: what stands there stays, and nothing is written in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker.approving import approve
from kernel_runtime.domain.errors import Conflict, Invalid
from kernel_runtime.domain.rules import Effect, Layer

if TYPE_CHECKING:
    from pathlib import Path

NEW = "net:api.example.org/GET"


def allowed(path: Path, *scopes: str) -> list[str]:
    source = approve(path, list(scopes), Layer.USER)
    return [str(rule.scope) for rule in source.rules if rule.effect is Effect.ALLOW]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_new_file_is_private_and_its_directory_is_made(tmp_path: Path) -> None:
    path = tmp_path / "config" / "policy.toml"
    assert allowed(path, NEW, "cache", NEW) == [NEW, "cache"]
    assert path.stat().st_mode & 0o077 == 0
    assert path.read_text().count(NEW) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# mine\ndefault = 'deny'\n",
        'allow = ["clock"]\n# the end',
        'deny = ["process"]\nallow = [  # these\n  "clock", # why\n]\n[check]\n',
        'allow = [{ scope = "clock", rate = "60/min" }]\n',
    ],
)
def test_what_stands_there_stays(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "policy.toml", text)
    assert set(allowed(path, NEW)) == {NEW, *(["clock"] if "clock" in text else [])}
    left = path.read_text()
    for line in filter(None, text.replace("allow = [", "").splitlines()):
        assert line.strip() in left


def test_what_is_allowed_already_is_not_written_again(tmp_path: Path) -> None:
    path = write(tmp_path / "policy.toml", f'allow = ["{NEW}"]\n')
    assert allowed(path, NEW) == [NEW]
    assert path.read_text() == f'allow = ["{NEW}"]\n'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (f'deny = ["{NEW}"]\n', Conflict),
        ('[[allow]]\nscope = "clock"\n', Conflict),
        ('x = """\nallow = [\n"""\n', Invalid),
        ("nonsense", Invalid),
    ],
)
def test_in_doubt_the_file_is_left_as_it_was(tmp_path: Path, text: str, error: type[Exception]) -> None:
    path = write(tmp_path / "policy.toml", text)
    with pytest.raises(error):
        approve(path, [NEW], Layer.USER)
    assert path.read_text() == text
    assert [each.name for each in tmp_path.iterdir()] == ["policy.toml"]


def test_a_list_inside_a_text_is_no_list(tmp_path: Path) -> None:
    text = 'deny = [{ scope = "process", reason = """\nallow = [\n""" }]\n'
    path = write(tmp_path / "policy.toml", text)
    with pytest.raises((Conflict, Invalid)):
        approve(path, [NEW], Layer.USER)
    assert path.read_text() == text


@pytest.mark.parametrize("scope", ["nonsense", 'net:x.org"]\ndeny = []', "net:exa mple.org"])
def test_only_scopes_are_written(tmp_path: Path, scope: str) -> None:
    with pytest.raises(Invalid):
        approve(tmp_path / "policy.toml", [scope], Layer.USER)
    assert not list(tmp_path.iterdir())


def test_a_file_that_others_may_write_is_not_added_to(tmp_path: Path) -> None:
    path = write(tmp_path / "policy.toml", "")
    path.chmod(0o666)
    with pytest.raises(Invalid, match="other users may write"):
        approve(path, [NEW], Layer.USER)


def test_a_link_to_it_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link.toml").symlink_to(write(tmp_path / "policy.toml", ""))
    assert allowed(tmp_path / "link.toml", NEW) == [NEW]
    assert (tmp_path / "link.toml").is_symlink()

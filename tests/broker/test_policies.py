"""Policy files: which of them hold, and those that somebody else could have written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker.places import project_file
from kernel_runtime.broker.policies import check_sections, load_policy, read_source
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.policy import Policy, given
from kernel_runtime.domain.rules import Effect, Layer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place that only its owner can write, with a project in it and a home of its own."""
    place = tmp_path / "ground"
    (place / "project" / ".kernel-runtime").mkdir(parents=True)
    (place / "config" / "kernel-runtime").mkdir(parents=True)
    (place / "system").mkdir()
    for directory in (place, *place.rglob("*")):
        directory.chmod(0o755)
    monkeypatch.setenv("HOME", str(place))
    return place


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o644)
    return path


def loaded(ground: Path, **options: object) -> Policy:
    environment = {"XDG_CONFIG_HOME": str(ground / "config")}
    system = ground / "system" / "policy.toml"
    return load_policy(ground / "project", environment, system=system, **options)


def shown(policy: Policy) -> set[str]:
    return {f"{rule.layer} {rule.effect} {rule.scope}" for rule in policy.rules}


def test_no_file_is_a_policy_that_asks(ground: Path) -> None:
    policy = loaded(ground)
    assert policy.sources == ()
    assert policy.default is Effect.ASK


def test_all_files_hold_at_once(ground: Path) -> None:
    write(ground / "system" / "policy.toml", 'deny = ["process"]')
    write(ground / "config" / "kernel-runtime" / "policy.toml", 'default = "deny"\nallow = ["cache"]')
    write(
        ground / "project" / ".kernel-runtime" / "policy.toml",
        'deny = ["files:write:./out"]\nallow = ["net:*"]',
    )
    extra = write(ground / "extra.toml", 'allow = ["clock"]')
    policy = loaded(ground, files=[extra], given=given(deny=["env:X"]).source)
    assert shown(policy) == {
        "system deny process",
        "user allow cache",
        f"project deny files:write:{ground}/project/out",
        "given allow clock",
        "given deny env:X",
    }
    assert policy.default is Effect.DENY
    assert [str(rule.scope) for rule in policy.unheeded] == ["net:*"]


def test_a_trusted_projects_policy_may_allow(ground: Path) -> None:
    write(ground / "project" / ".kernel-runtime" / "policy.toml", 'allow = ["net:*"]')
    write(ground / "config" / "kernel-runtime" / "policy.toml", 'trusted_projects = ["~/project"]')
    assert shown(loaded(ground)) == {"project allow net:*"}
    write(ground / "config" / "kernel-runtime" / "policy.toml", 'trusted_projects = ["~/proj"]')
    assert shown(loaded(ground)) == set()


def test_the_project_is_the_nearest_above(ground: Path) -> None:
    inner = ground / "project" / "a" / "b"
    inner.mkdir(parents=True)
    assert project_file(inner) is None
    write(ground / "project" / ".kernel-runtime" / "policy.toml", "")
    assert project_file(inner) == ground / "project" / ".kernel-runtime" / "policy.toml"
    (ground / "project").chmod(0o777)  # anybody may put one there
    assert project_file(inner) is None


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_is_refused(ground: Path, mode: int) -> None:
    path = write(ground / "config" / "kernel-runtime" / "policy.toml", 'allow = ["cache"]')
    assert shown(loaded(ground)) == {"user allow cache"}
    path.chmod(mode)
    with pytest.raises(Invalid, match=r"other users may write this policy; chmod go-w"):
        loaded(ground)


@pytest.mark.parametrize("place", ["config/kernel-runtime", "config", "."])
def test_a_file_whose_directories_others_may_write_is_refused(ground: Path, place: str) -> None:
    write(ground / "config" / "kernel-runtime" / "policy.toml", 'allow = ["cache"]')
    (ground / place).chmod(0o775)
    with pytest.raises(Invalid, match="other users may write"):
        loaded(ground)


def test_a_link_out_of_a_private_place_is_followed_with_suspicion(ground: Path) -> None:
    shared = ground / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    target = write(shared / "policy.toml", 'allow = ["cache"]')
    (ground / "config" / "kernel-runtime" / "policy.toml").symlink_to(target)
    with pytest.raises(Invalid, match=f"other users may write {shared}"):
        loaded(ground)
    shared.chmod(0o755)
    assert shown(loaded(ground)) == {"user allow cache"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_file_of_another_user_is_refused(ground: Path) -> None:
    path = write(ground / "config" / "kernel-runtime" / "policy.toml", 'allow = ["cache"]')
    os.chown(path, 12345, 12345)
    with pytest.raises(Invalid, match="belongs to another user"):
        loaded(ground)


def test_what_is_no_file_or_not_there_is_told(ground: Path) -> None:
    os.mkfifo(ground / "pipe.toml", 0o644)
    with pytest.raises(Invalid, match="regular file"):
        read_source(ground / "pipe.toml", Layer.GIVEN)
    with pytest.raises(Invalid, match="does not exist"):
        loaded(ground, files=[ground / "none.toml"])
    write(ground / "latin.toml", "").write_bytes(b"# \xe4")
    with pytest.raises(Invalid, match="not UTF-8"):
        read_source(ground / "latin.toml", Layer.GIVEN)


def test_what_source_is_read_for_is_of_the_files_that_hold(ground: Path) -> None:
    environment = {"XDG_CONFIG_HOME": str(ground / "config")}
    system, project = ground / "system" / "policy.toml", ground / "project"

    def trusted() -> list[bool]:
        return [each.trusted for each in check_sections(project, environment, system=system)]

    assert trusted() == []
    check = '[check]\nblock = [{name = "input"}]'
    write(ground / "config" / "kernel-runtime" / "policy.toml", check)
    write(system, 'deny = ["process"]')
    assert trusted() == [True]
    own = write(project / ".kernel-runtime" / "policy.toml", check)
    assert trusted() == [True, False]
    write(ground / "config" / "kernel-runtime" / "policy.toml", f'trusted_projects = ["{project}"]\n{check}')
    assert trusted() == [True, True]
    own.chmod(0o666)
    with pytest.raises(Invalid, match="other users may write this policy"):
        trusted()

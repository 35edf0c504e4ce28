"""Which host files belong to the image, and which directories stay hidden."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kernel_runtime.domain.errors import WallUnavailable
from kernel_runtime.sandbox import image


def test_the_image_holds_the_interpreter_and_no_home(tmp_path: Path) -> None:
    described = image.describe([], str(tmp_path))
    paths = [bind.path for bind in described.binds]
    for wanted in (sys.prefix, sys.base_prefix):
        assert any(wanted == p or wanted.startswith(p + "/") for p in paths)
    assert os.path.expanduser("~") not in paths
    assert not {"/", "/etc", "/var", "/home", "/root"} & set(paths)


def test_no_path_lies_below_another() -> None:
    assert image._covering(["/usr/lib", "/usr", "/usr", "/usrx"]) == ["/usr", "/usrx"]


def test_the_password_file_is_made_for_the_guest() -> None:
    described = image.describe([], None)
    assert described.files["/etc/passwd"].startswith(f"guest:x:{described.ids.uid}:")
    assert "/etc/shadow" not in described.files


@pytest.mark.parametrize("path", ["/", "/etc", "/usr", "~", "~/.."])
def test_homes_and_system_directories_stay_hidden(path: str) -> None:
    assert image.why_hidden(os.path.realpath(os.path.expanduser(path)))


def test_a_project_is_shown_and_a_missing_one_is_not(tmp_path: Path) -> None:
    assert image.why_hidden(str(tmp_path)) is None
    assert "not a directory" in (image.why_hidden(str(tmp_path / "nothing")) or "")


def test_a_link_to_the_home_is_seen_through(tmp_path: Path) -> None:
    link = tmp_path / "innocent"
    link.symlink_to(Path.home())
    assert image.why_hidden(str(link))


def test_root_becomes_an_id_that_nobody_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    id_map = tmp_path / "map"
    id_map.write_text("         0          0 4294967295\n")
    assert image._unowned(str(id_map)) == 1_879_000_000
    id_map.write_text("0 100000 65536\n")
    assert image._unowned(str(id_map)) == 65534
    id_map.write_text("0 1000 1\n")
    with pytest.raises(WallUnavailable, match="maps no other id"):
        image._unowned(str(id_map))


def test_an_ordinary_user_stays_who_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(os, "getgid", lambda: 5678)
    ids = image.choose_ids()
    assert (ids.uid, ids.host_uid, ids.gid, ids.remapped) == (1234, 1234, 5678, False)


def test_a_home_inside_the_image_is_replaced() -> None:
    home = os.path.normpath(os.path.expanduser("~"))
    assert image._home(["/usr"]) in (home, "/home/guest")
    assert image._home([home]) == "/home/guest"

"""Which host files belong to the image, and which directories stay hidden."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kernel_runtime.sandbox import image
from kernel_runtime.sandbox.plan import Ids


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
    assert image._unowned(str(id_map)) is None


def test_a_root_without_another_id_is_an_ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(os, "getgid", lambda: 0)
    monkeypatch.setattr(image, "_unowned", lambda _: None)
    assert image.choose_ids() == Ids(uid=1000, gid=1000, host_uid=0, host_gid=0, remapped=False)


def test_an_ordinary_user_stays_who_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(os, "getgid", lambda: 5678)
    ids = image.choose_ids()
    assert (ids.uid, ids.host_uid, ids.gid, ids.remapped) == (1234, 1234, 5678, False)


def test_the_hosts_root_is_known_under_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.stat("/proc").st_uid
    for uid, remapped, expected in ((owner, False, True), (owner, True, False), (owner + 1, False, False)):
        monkeypatch.setattr(os, "getuid", lambda uid=uid: uid)
        ids = Ids(uid=1000, gid=1000, host_uid=uid, host_gid=uid, remapped=remapped)
        assert image.is_roots_own(ids) is expected


def test_private_keys_of_the_system_are_in_no_image() -> None:
    paths = [bind.path for bind in image.describe([], None).binds]
    assert not any(private == p or private.startswith(p + "/") for p in paths
                   for private in ("/etc/ssl/private", "/etc/pki/tls/private", "/etc/pki/nssdb"))  # fmt: skip


def test_a_home_inside_the_image_is_replaced() -> None:
    home = os.path.normpath(os.path.expanduser("~"))
    assert image._home(["/usr"]) in (home, "/home/guest")
    assert image._home([home]) == "/home/guest"


def test_a_prefix_that_is_a_home_shows_the_interpreter_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``pip install --prefix ~``, a conda unpacked into a home: keys lie beside ``lib``."""
    home = tmp_path / "ada"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in (f"lib/{version}/site-packages", "lib/private", "bin", ".ssh"):
        (home / name).mkdir(parents=True)
    (home / "pyvenv.cfg").write_text("home = /usr/bin\n")
    monkeypatch.setenv("HOME", str(home))
    for name in ("prefix", "exec_prefix", "base_prefix", "base_exec_prefix"):
        monkeypatch.setattr(sys, name, str(home))
    shown = image._environment()
    assert f"{home}/lib/{version}" in shown
    assert f"{home}/pyvenv.cfg" in shown
    assert not {str(home), str(tmp_path), f"{home}/lib", f"{home}/.ssh", f"{home}/lib/private"} & set(shown)
    assert not any(str(home).startswith(path + "/") for path in shown)
    files = [bind for bind in image.describe([], None).binds if bind.path == f"{home}/pyvenv.cfg"]
    assert [bind.directory for bind in files] == [False]


def test_a_prefix_above_the_home_is_taken_apart_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "data" / "ada"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "data"))
    assert not any(str(home).startswith(path + "/") or path == str(home) for path in image._environment())

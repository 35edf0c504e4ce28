"""Scratch directories: private, removed whatever a guest left in them, swept after a dead front."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_runtime.domain.errors import Conflict
from kernel_runtime.domain.verdict import Reason
from kernel_runtime.workers import scratch


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def make() -> Path:
    return Path(scratch.make(os.getuid(), os.getgid()))


def test_a_scratch_is_private_and_its_own() -> None:
    first, second = make(), make()
    assert first != second
    assert first.stat().st_mode & 0o777 == 0o700
    assert first.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_another_user_may_pass_through_and_list_nothing() -> None:
    path = Path(scratch.make(1234, 1234))
    assert path.stat().st_uid == 1234
    assert path.parent.stat().st_mode & 0o777 == 0o711


def test_a_directory_that_others_could_have_made_is_refused(temporary: Path) -> None:
    parent = temporary / f"kernel-runtime-scratch-{os.getuid()}"
    parent.mkdir()
    parent.chmod(0o777)
    with pytest.raises(Conflict, match="not a private directory"):
        make()
    parent.rmdir()
    parent.symlink_to(temporary)
    with pytest.raises(Conflict, match="not a private directory"):
        make()


def test_what_a_guest_leaves_is_removed_and_no_link_is_followed(tmp_path: Path) -> None:
    path = make()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (path / "link").symlink_to(outside)
    (path / "inner").mkdir()
    (path / "inner" / "link").symlink_to(outside / "kept")
    os.mkfifo(path / "inner" / "pipe")
    (path / "closed").mkdir()
    (path / "closed" / "deeper").mkdir()
    (path / "closed" / "deeper" / "file").write_text("x")
    (path / "closed" / "deeper").chmod(0)
    (path / "closed").chmod(0)
    (path / "new\nline").write_text("x")
    (path / os.fsdecode(b"\xff\xfe")).write_text("x")
    scratch.remove(str(path))
    assert not path.exists()
    assert (outside / "kept").read_text() == "kept"


@pytest.mark.slow
def test_a_tree_deeper_than_any_path_is_removed() -> None:
    path = make()
    before = os.open(".", os.O_RDONLY)
    os.chdir(path)
    for _ in range(2200):
        os.mkdir("d")
        os.chdir("d")
    os.fchdir(before)
    os.close(before)
    assert scratch.used(str(path))[0] > 2**60, "too deep to be looked at counts as without an end"
    scratch.remove(str(path))
    assert not path.exists()


def test_removing_twice_is_no_error() -> None:
    path = make()
    scratch.remove(str(path))
    scratch.remove(str(path))


def test_directories_of_dead_fronts_are_swept_and_those_of_living_ones_kept() -> None:
    own = make()
    code = "import os\nfrom kernel_runtime.workers import scratch\nscratch.tempfile.tempdir = {!r}\nprint(scratch.make(os.getuid(), os.getgid()))"
    done = subprocess.run(
        [sys.executable, "-c", code.format(str(own.parents[1]))], capture_output=True, text=True, check=True
    )
    dead = Path(done.stdout.strip())
    assert dead.parent == own.parent
    assert dead.exists()
    scratch.sweep()
    assert not dead.exists()
    assert own.exists()


def test_more_than_it_may_hold_is_seen() -> None:
    path = make()
    watch = scratch.Watch(str(path), size=2**20, inodes=8)
    (path / "file").write_bytes(b"x" * 2**21)
    verdict = asyncio.run(asyncio.wait_for(watch.exceeded(), 60))
    assert verdict.reason is Reason.DISK
    assert verdict.used is not None
    assert verdict.used >= 2**21
    assert watch.layer.used == verdict.used
    many = scratch.Watch(str(path), size=2**30, inodes=8)
    for number in range(8):
        (path / f"{number}").touch()
    assert asyncio.run(asyncio.wait_for(many.exceeded(), 60)).reason is Reason.DISK


def test_counting_ends_where_a_limit_is_exceeded(temporary: Path) -> None:
    path = Path(scratch.make(os.getuid(), os.getgid()))
    for number in range(50):
        (path / str(number)).write_bytes(bytes(4096))
    held, count = scratch.used(str(path))
    assert (held, count) == (50 * 4096, 50)
    assert scratch.used(str(path), inodes=10)[1] == 11
    assert scratch.used(str(path), size=3 * 4096)[0] == 4 * 4096
    scratch.remove(str(path))

"""A read-only view: what is opened below it writes nothing, whoever owns the file."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.sandbox import beneath, trees

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ATTEMPTS: dict[str, Callable[[int], object]] = {
    "anew for writing": lambda fd: os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR)),
    "anew and cut": lambda fd: os.close(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_TRUNC)),
    "by path": lambda fd: os.truncate(f"/proc/self/fd/{fd}", 0),
    "mode": lambda fd: os.fchmod(fd, 0o777),
    "mode by path": lambda fd: os.chmod(f"/proc/self/fd/{fd}", 0o777),
    "owner": lambda fd: os.fchown(fd, os.getuid(), os.getgid()),
    "times": lambda fd: os.utime(fd, (0, 0)),
    "attributes": lambda fd: os.setxattr(fd, "user.x", b"y"),
    "a name": lambda fd: os.link(f"/proc/self/fd/{fd}", "other", src_dir_fd=None, follow_symlinks=True),
}


@pytest.fixture(params=[trees._clone, trees._from_helper], ids=["as root", "as anybody"])
def view(request: pytest.FixtureRequest) -> Callable[[str], int]:
    if request.param is trees._clone and os.geteuid() != 0:
        pytest.skip("needs root")
    return request.param


def test_no_attempt_to_write_succeeds(view: Callable[[str], int], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    file.write_text("text")
    tree = view(str(tmp_path))
    held = beneath.open_regular(tree, "file", os.O_RDONLY)
    plain = os.open(file, os.O_RDONLY)
    try:
        assert os.read(held, 10) == b"text"
        before = file.stat()
        for name, attempt in ATTEMPTS.items():
            with pytest.raises(OSError) as caught:
                attempt(held)
            assert caught.value.errno in (errno.EROFS, errno.EXDEV), name
        after = file.stat()
        assert (after.st_mode, after.st_mtime_ns, after.st_size) == (
            before.st_mode,
            before.st_mtime_ns,
            before.st_size,
        )
        for name, attempt in ATTEMPTS.items():  # the control: a descriptor from elsewhere does all of it
            if name != "a name":
                attempt(plain)
    finally:
        for fd in (tree, held, plain):
            os.close(fd)


def test_what_is_handed_out_outlives_the_view(view: Callable[[str], int], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    tree = view(str(tmp_path))
    held = beneath.open_regular(tree, "file", os.O_RDONLY)
    os.close(tree)
    assert os.read(held, 10) == b"text"
    with pytest.raises(OSError):
        os.open(f"/proc/self/fd/{held}", os.O_RDWR)
    os.close(held)


def test_the_host_goes_on_writing(view: Callable[[str], int], tmp_path: Path) -> None:
    tree = view(str(tmp_path))
    (tmp_path / "later").write_text("text")
    os.close(beneath.open_regular(tree, "later", os.O_RDONLY))
    os.close(tree)


def test_a_place_that_is_not_there_is_told() -> None:
    with pytest.raises(OSError, match=r"open_tree|no read-only view"):
        trees._from_helper("/nothing/here")

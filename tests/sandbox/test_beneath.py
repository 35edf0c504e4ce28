"""Files below a directory: nothing leads out, whatever moves meanwhile."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.sandbox import beneath
from tests.sandbox.swapping import SECRET, prepare, swapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return prepare(tmp_path)


@pytest.fixture
def fd(top: Path) -> Iterator[int]:
    fd = os.open(top, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def content(fd: int, path: str) -> str:
    file = beneath.open_regular(fd, path, os.O_RDONLY)
    try:
        return os.read(file, 100).decode()
    finally:
        os.close(file)


def test_what_is_below_is_opened_and_not_inherited(fd: int) -> None:
    assert content(fd, "inside/data.txt") == "of its own"
    file = beneath.open_regular(fd, "inside/data.txt", os.O_RDONLY)
    assert not os.get_inheritable(file)
    os.close(file)


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("link/data.txt", errno.ELOOP),
        ("link", errno.ELOOP),
        ("../outside/data.txt", errno.EXDEV),
        ("inside/../../outside/data.txt", errno.EXDEV),
        ("/etc/passwd", errno.EXDEV),
        ("inside/" + "x" * 300, errno.ENAMETOOLONG),
        ("nothing", errno.ENOENT),
    ],
)
def test_nothing_leads_out(fd: int, path: str, number: int) -> None:
    with pytest.raises(OSError) as caught:
        content(fd, path)
    assert caught.value.errno == number


def test_a_link_of_the_kernels_leads_nowhere(fd: int) -> None:
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    try:
        os.close(os.open(f"self/fd/{fd}", os.O_PATH, dir_fd=proc))  # the control
        with pytest.raises(OSError) as caught:
            beneath.open_beneath(proc, f"self/fd/{fd}", os.O_PATH)
        assert caught.value.errno == errno.ELOOP
    finally:
        os.close(proc)


def test_a_name_is_not_cut_at_a_nul(fd: int) -> None:
    with pytest.raises(ValueError, match="NUL"):
        content(fd, "inside/data.txt\0.png")


def test_pipes_sockets_devices_and_directories_are_no_files(top: Path, fd: int) -> None:
    os.mkfifo(top / "pipe")  # opened for reading it would wait for a writer
    for path in ("pipe", "inside"):
        with pytest.raises(beneath.NotRegular):
            content(fd, path)


def test_a_link_swapped_in_at_any_moment_is_not_followed(top: Path, fd: int) -> None:
    def careless() -> str:
        """Looks first, opens then."""
        path = top / "inside"
        if path.is_symlink():
            return ""
        return (path / "data.txt").read_text()

    def tried(read) -> str:
        try:
            return read()
        except OSError:
            return ""

    with swapped(top):
        for _ in range(200_000):  # the control: it takes some tries
            if tried(careless) == SECRET:
                break
        else:
            pytest.fail("the attack does not even succeed on a careless reader")
        seen: set[str] = set()
        for number in range(200_000):  # who swaps may stand still for a while
            seen.add(tried(lambda: content(fd, "inside/data.txt")))
            if number >= 5000 and "of its own" in seen:
                break
    assert SECRET not in seen
    assert "of its own" in seen


def test_a_file_is_replaced_whole_and_links_and_other_names_stay(top: Path, fd: int) -> None:
    (top / "file").write_text("old")
    os.link(top / "file", top / "other name")
    (top / "to secret").symlink_to("../outside/data.txt")
    for name in ("file", "to secret"):
        beneath.replace(fd, name, [b"ne", b"w"], 0o640)
        assert (top / name).read_text() == "new"
        assert not (top / name).is_symlink()
        assert (top / name).stat().st_mode & 0o7777 == 0o640
    assert (top / "other name").read_text() == "old"
    assert (top.parent / "outside/data.txt").read_text() == SECRET


def test_what_breaks_off_leaves_everything_as_it_was(top: Path, fd: int) -> None:
    def broken():
        yield b"half"
        raise OSError(errno.EIO, "gone")

    (top / "file").write_text("old")
    before = sorted(os.listdir(top))
    with pytest.raises(OSError, match="gone"):
        beneath.replace(fd, "file", broken(), 0o644)
    assert (top / "file").read_text() == "old"
    assert sorted(os.listdir(top)) == before


def test_no_more_is_read_than_there_may_be(top: Path, fd: int) -> None:
    file = os.open(top / "inside/data.txt", os.O_RDONLY)
    with pytest.raises(OSError) as caught:
        list(beneath.chunks(file, 3))
    assert caught.value.errno == errno.EFBIG
    os.close(file)

"""The front is root, as in containers: its guests hold none of root's rights over files.

They are another user of the host, who owns nothing. Only in the notebook's own directory do root's
files appear as theirs, as an ordinary user's files do to the guests of that user.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.errors import WallUnavailable
from kernel_runtime.domain.limits import Limits
from kernel_runtime.runtime import Runtime, Settings
from kernel_runtime.sandbox import stage
from kernel_runtime.sandbox import syscalls as sc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def inside_the_image() -> Iterator[Path]:
    """A file that only root may read, where guests do look: in the interpreter's environment."""
    path = Path(sys.prefix, f"kernel-runtime-test-{uuid.uuid4().hex}")
    path.write_text("root's own")
    path.chmod(0o600)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def files(directory: Path) -> Path:
    """In the notebook's directory: root's own private file, and another user's."""
    for name, uid, mode in (("roots", 0, 0o600), ("others", 4321, 0o600), ("public", 4321, 0o644)):
        path = directory / name
        path.write_text(name)
        path.chmod(mode)
        os.chown(path, uid, uid)
    return directory


def test_files_that_only_root_may_read_stay_closed(
    attack: Callable[..., str], inside_the_image: Path
) -> None:
    code = f"open({str(inside_the_image)!r}).read()"
    assert attack(code).startswith("PermissionError")
    assert attack(code, without=("user",)) == '"root\'s own"', "as root it could"


def test_they_cannot_be_opened_up_either(attack: Callable[..., str], inside_the_image: Path) -> None:
    for code in ("os.chmod({0!r}, 0o644)", "os.chown({0!r}, 1000, 1000)", "os.link({0!r}, '/tmp/link')"):
        said = attack("import os\n" + code.format(str(inside_the_image)))
        assert said.startswith(("PermissionError", "OSError")), said
    assert inside_the_image.stat().st_mode & 0o777 == 0o600
    assert inside_the_image.stat().st_uid == 0


def test_in_the_directory_roots_files_are_the_guests_and_others_private_ones_are_not(
    attack: Callable[..., str], files: Path
) -> None:
    code = f"open({str(files)!r} + '/{{}}').read()"
    assert attack(code.format("roots")) == "'roots'", "the notebook's own"
    assert attack(code.format("public")) == "'public'"
    assert attack(code.format("others")).startswith("PermissionError")
    assert (files / "others").read_text() == "others", "root itself may"


def test_what_a_guest_may_not_read_it_may_not_replace(attack: Callable[..., str], files: Path) -> None:
    said = attack(f"open({str(files)!r} + '/others', 'w').write('x')")
    assert said.startswith("PermissionError"), said
    assert (files / "others").read_text() == "others"


def test_a_guest_is_no_user_of_the_host(attack: Callable[..., str]) -> None:
    assert attack("import os; os.getresuid(), os.getgroups()") == "((1000, 1000, 1000), [])"
    said = attack("import os; [line.split() for line in open('/proc/self/uid_map')]")
    assert said == "[['1000', '1000', '1']]"


def test_a_directory_whose_ids_cannot_be_mapped_is_refused() -> None:
    """The kernel's own file systems have no id-mapped mounts: nothing starts there."""

    async def try_it() -> None:
        runtime = Runtime(Settings(workdir="/proc/fs", warm=()))
        session = runtime.open_session(limits=Limits())
        try:
            await session.ready()
        finally:
            await runtime.close()

    with pytest.raises(WallUnavailable, match="/proc/fs lies on a file system without id-mapped mounts"):
        asyncio.run(try_it())


def test_a_failure_of_another_kind_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSYS, "mount_setattr: Function not implemented")

    monkeypatch.setattr(sc, "mount_setattr", fail)
    with pytest.raises(OSError, match="mount_setattr"):
        stage._map_ids(0, 0, "/work")

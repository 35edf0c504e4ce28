"""Policy files: where they lie, who may have written them, and which of them hold."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from kernel_runtime.broker import places
from kernel_runtime.broker.places import SYSTEM, project_file, user_file
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.manifest import Anchors
from kernel_runtime.domain.policy import Policy, Source, parse_policy_file
from kernel_runtime.domain.rules import Layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kernel_runtime.domain.check_policy import Section

_MAX_BYTES = 1 << 20


def load_policy(
    directory: Path,
    environment: Mapping[str, str],
    *,
    files: Iterable[Path] = (),
    given: Source | None = None,
    confirm: bool = False,
    system: Path = SYSTEM,
) -> Policy:
    """What holds for work in ``directory``: system, user and project, then ``files`` and flags.

    A project's file may only tighten, unless the system's or the person's file trusts its directory.
    A file that somebody else could have written is refused: nothing starts with half a policy.
    """
    sources = [
        source
        for path, layer in ((system, Layer.SYSTEM), (user_file(environment), Layer.USER))
        if (source := read_source(path, layer)) is not None
    ]
    trusted = {Path(name).resolve() for source in sources for name in source.trusted_projects}
    own = project_file(directory)
    if own is not None:
        project = own.parent.parent.resolve()
        source = read_source(own, Layer.PROJECT, trusted=project in trusted)
        sources += [source] if source else []
    sources += map(read_given, files)
    sources += [given] if given is not None else []
    return Policy(sources, confirm=confirm)


def check_sections(
    directory: Path, environment: Mapping[str, str], *, system: Path = SYSTEM
) -> list[Section]:
    """What the files that hold in ``directory`` want source to be read for; ``Invalid`` as ``load_policy``."""
    if not places.found(directory, environment, system):
        return []
    sources = load_policy(directory, environment, system=system).sources
    return [source.check for source in sources if source.check is not None]


def read_given(path: Path) -> Source:
    """One policy file that was named; ``Invalid`` when it is not there or cannot be relied on."""
    source = read_source(path, Layer.GIVEN)
    if source is None:
        raise Invalid(f"{path} does not exist: no policy was read")
    return source


def read_source(path: Path, layer: Layer, *, trusted: bool = True) -> Source | None:
    """One policy file; ``None`` when there is none. ``Invalid`` when it cannot be relied on."""
    text = read_own(path)
    if text is None:
        return None
    base = path.absolute().parent
    base = base.parent if layer is Layer.PROJECT else base
    return parse_policy_file(text, str(path), layer, Anchors(str(base), str(Path.home())), trusted=trusted)


def read_own(path: Path, what: str = "policy") -> str | None:
    """The text of a file that nobody else can have written; ``None`` when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Invalid(f"{path}: a {what} that cannot be read: {error.strerror or error}") from None
    with open(descriptor, "rb") as file:
        _refuse_foreign(os.fstat(file.fileno()), path)
        _refuse_foreign_directories(path)
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise Invalid(f"{path}: a {what} of more than 1 MB is not read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8: byte {error.start}") from None


def _refuse_foreign(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Invalid(f"{path}: a policy is a regular file")
    if status.st_uid not in (0, os.geteuid()):
        raise Invalid(f"{path}: this policy belongs to another user (uid {status.st_uid}): not read")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Invalid(f"{path}: other users may write this policy; chmod go-w {path}")


def _refuse_foreign_directories(path: Path) -> None:
    """Who may write a directory above may put another file in the policy's place."""
    for directory in (path.absolute().parent, *path.resolve().parents):
        status = directory.stat()
        sticky = status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, os.geteuid()):
            raise Invalid(f"{path}: {directory} belongs to another user (uid {status.st_uid}): not read")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
            raise Invalid(f"{path}: other users may write {directory}; chmod go-w {directory}")

"""Manifests in files: ``app.toml``, ``pyproject.toml``, a notebook's metadata."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kernel_runtime.domain.errors import Invalid, NotFound
from kernel_runtime.domain.manifest import (
    Anchors,
    Manifest,
    has_table,
    parse_manifest,
    parse_notebook,
    parse_pyproject,
    undeclared,
)

MAX_TOML = 1 << 20
MAX_NOTEBOOK = 256 << 20
NAMES = ("app.toml", "pyproject.toml")


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file, or of a directory (its app.toml, or its pyproject.toml).

    A script has none: what it asks for is not declared.
    """
    if path.is_dir():
        return read_manifest(_in_directory(path))
    anchors = Anchors(str(path.absolute().parent), str(Path.home()))
    if path.suffix == ".ipynb":
        return parse_notebook(_read(path, MAX_NOTEBOOK), str(path), path.stem, anchors)
    if path.suffix == ".toml":
        parse = parse_pyproject if path.name == "pyproject.toml" else parse_manifest
        return parse(_read(path, MAX_TOML), str(path), anchors)
    if path.suffix == ".py" and path.is_file():
        return replace(undeclared(path.stem), place=str(path))
    raise Invalid(f"{path} has no manifest; name an app.toml, a pyproject.toml, a notebook or a script")


def manifests_of(path: Path) -> list[Manifest]:
    """What speaks for a file of an app: a notebook's own manifest, and the one of the directory that it lies in."""
    own = [read_manifest(path)] if path.suffix == ".ipynb" else []
    beside = path.parent / "app.toml"
    project = path.parent / "pyproject.toml"
    if not beside.is_file() and project.is_file() and has_table(_read(project, MAX_TOML), str(project)):
        beside = project
    return own + ([read_manifest(beside)] if beside.is_file() else [])


def _in_directory(path: Path) -> Path:
    for name in NAMES:
        if (path / name).is_file():
            return path / name
    raise NotFound(f"{path} has no {' and no '.join(NAMES)}")


def _read(path: Path, most: int) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > most:
        raise Invalid(f"{path} is larger than {most >> 20} MB: not read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8: byte {error.start}") from None

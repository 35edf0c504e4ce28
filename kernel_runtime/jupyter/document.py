"""Notebook files: read with errors a person can act on, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from nbformat import NotebookNode

_PYTHON = frozenset({"python", "python3", "ipython", "ipython3", "xpython"})


# -- reading ------------------------------------------------------------------------------------


def read_bytes(path: Path) -> bytes:
    """A file's bytes; ``Invalid`` says why there are none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Invalid(f"{path} does not exist; check the name and the directory") from None
    except IsADirectoryError:
        raise Invalid(f"{path} is a directory; name a notebook (.ipynb) or a script (.py) in it") from None
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror or error}") from None


def read_notebook(path: Path) -> NotebookNode:
    """The notebook of a file as format 4; ``Invalid`` with the place for anything else."""
    notebook = parse_notebook(read_bytes(path), str(path))
    check_language(notebook, str(path))
    return notebook


def parse_notebook(data: bytes, place: str) -> NotebookNode:
    """Bytes → notebook of format 4."""
    document = _json(data, place)
    if not isinstance(document, dict) or "nbformat" not in document:
        raise Invalid(f"{place} is JSON, but not a notebook: it has no 'nbformat'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing cell ids, say: added here
            notebook = nbformat.convert(nbformat.reader.reads(data.decode("utf-8")), 4)
            _, notebook = nbformat.validator.normalize(notebook)
        nbformat.validate(notebook)
    except Exception as error:  # noqa: BLE001 — nbformat lets anything out for a broken file
        raise Invalid(f"{place} is not a valid notebook: {_first_line(error)}") from None
    return notebook


def _json(data: bytes, place: str) -> Any:
    if not data.strip():
        raise Invalid(
            f"{place} is empty; a notebook is a JSON document. Restore it, or save it again from Jupyter"
        )
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise Invalid(f"{place} is not a notebook: its bytes are not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise Invalid(
            f"{place} is not a notebook: broken JSON at line {error.lineno}, column {error.colno} ({error.msg}). "
            "Restore the file from a checkpoint or version control"
        ) from None
    except RecursionError:
        raise Invalid(f"{place} is not a notebook: its JSON is nested too deep") from None
    except ValueError as error:
        raise Invalid(f"{place} is not a notebook: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def check_language(notebook: NotebookNode, place: str) -> None:
    """``Invalid`` for a notebook that says it is written in another language than Python."""
    language = str(
        notebook.metadata.get("language_info", {}).get("name")
        or notebook.metadata.get("kernelspec", {}).get("language")
        or "python"
    )
    if language.lower() not in _PYTHON:
        raise Invalid(f"{place} is written in {language}; kernel_runtime runs Python notebooks only")


# -- writing ------------------------------------------------------------------------------------


def check_writable(path: Path) -> None:
    """``Invalid`` if ``path`` cannot be written: asked before the work, not after it."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise Invalid(f"{path} is a directory; name a file in it")
    if _is_special(target):
        return
    try:
        descriptor, temporary = _beside(target)
    except OSError as error:
        raise Invalid(_cannot_write(path, error)) from None
    os.close(descriptor)
    os.unlink(temporary)


def write_file(path: Path, data: bytes) -> None:
    """Write ``data`` whole or not at all: a new file beside, then renamed over ``path``.

    A symlink stays one (its target is replaced); a device or pipe is written directly.
    """
    target = Path(os.path.realpath(path))
    try:
        if _is_special(target):
            with open(target, "wb", buffering=0) as file:
                file.write(data)
            return
        _replace(target, data)
    except OSError as error:
        raise Invalid(_cannot_write(path, error)) from None


def _replace(target: Path, data: bytes) -> None:
    descriptor, temporary = _beside(target)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    except BaseException:  # also Ctrl-C: nothing half-written stays behind
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _beside(target: Path) -> tuple[int, str]:
    temporary = str(target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp"))
    return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), temporary


def _is_special(target: Path) -> bool:
    return target.exists() and not target.is_file() and not target.is_dir()


def _cannot_write(path: Path, error: OSError) -> str:
    fixes = {
        errno.ENOSPC: "free some space, or choose another disk with -o",
        errno.EDQUOT: "your quota is used up; free some space, or choose another place with -o",
        errno.ENOENT: "its directory does not exist; create it first",
        errno.ENOTDIR: "a part of the path is a file, not a directory",
        errno.EACCES: "you may not write there; choose another place with -o",
        errno.EPERM: "you may not write there; choose another place with -o",
        errno.EROFS: "the file system is read-only; choose another place with -o",
        errno.ENAMETOOLONG: "choose a shorter name",
    }
    reason = error.strerror or str(error)
    fix = fixes.get(error.errno or 0)
    return f"{path} cannot be written: {reason}" + (f"; {fix}" if fix else "")


def write_notebook(path: Path, notebook: NotebookNode) -> None:
    """Write a notebook whole or not at all."""
    write_file(path, (nbformat.writes(notebook) + "\n").encode("utf-8", "surrogatepass"))

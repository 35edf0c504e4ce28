"""Files of the host, where the owner grants them. Asks for ``files:read:<path>`` and ``files:write:<path>``.

    from kernel_runtime.sdk import files

    with files.open("/data/prices.csv") as file: ...
    files.write_text("/data/out/report.txt", text)

``files.open`` gives an ordinary file: the host has opened it, and what is read and written goes no detour.
"""

from __future__ import annotations

import builtins
import os
from typing import IO, TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.sdk.door import Ask, both, same

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    *("alistdir", "aopen", "aread_bytes", "aread_text", "astat", "awrite_bytes", "awrite_text"),
    *("listdir", "open", "read_bytes", "read_text", "stat", "write_bytes", "write_text"),
]

_MODES = ("r", "w", "a", "x", "r+", "w+", "a+", "x+")


def _path(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.fspath(path))


def _opened(
    path: str | os.PathLike[str], mode: str, use: Callable[[int], Any], action: str = "open"
) -> Ask[Any]:
    plain = mode.replace("b", "").replace("t", "")
    if plain not in _MODES:
        raise Invalid(
            f"files: {mode!r} is no mode of a file; there are {', '.join(_MODES)}, with b for bytes"
        )

    def then(answer: tuple[Any, int | None]) -> Any:
        descriptor = answer[1]
        if descriptor is None:
            raise Invalid(f"files: {path} came without a descriptor")
        return use(descriptor)

    return Ask("files", action, {"path": _path(path), "mode": plain}, then, opens=True)


def _open(
    path: str | os.PathLike[str], mode: str = "r", encoding: str | None = None, newline: str | None = None
) -> Ask[IO[Any]]:
    """Open a file as Python's ``open`` does."""
    text = "b" not in mode
    return _opened(
        path,
        mode,
        lambda descriptor: builtins.open(
            descriptor,
            mode.replace("x", "w"),
            encoding=(encoding or "utf-8") if text else None,
            newline=newline if text else None,
        ),
    )


def _read_bytes(path: str | os.PathLike[str]) -> Ask[bytes]:
    """The whole file."""

    def use(descriptor: int) -> bytes:
        with builtins.open(descriptor, "rb") as file:
            return file.read()

    return _opened(path, "r", use)


def _read_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> Ask[str]:
    """The whole file as text."""

    def use(descriptor: int) -> str:
        with builtins.open(descriptor, encoding=encoding) as file:
            return file.read()

    return _opened(path, "r", use)


def _write_bytes(path: str | os.PathLike[str], data: bytes) -> Ask[int]:
    """Write the whole file; what it was before is gone."""

    def use(descriptor: int) -> int:
        with builtins.open(descriptor, "wb") as file:
            return file.write(data)

    return _opened(path, "w", use)


def _write_text(path: str | os.PathLike[str], text: str, encoding: str = "utf-8") -> Ask[int]:
    """Write the whole file as text."""

    def use(descriptor: int) -> int:
        with builtins.open(descriptor, "w", encoding=encoding) as file:
            return file.write(text)

    return _opened(path, "w", use)


def _listdir(path: str | os.PathLike[str] = ".") -> Ask[list[str]]:
    """The names in a directory."""
    return Ask("files", "list", {"path": _path(path)}, same)


def _stat(path: str | os.PathLike[str]) -> Ask[dict[str, Any]]:
    """Kind, size and time of a file, as the host tells them."""
    return Ask("files", "stat", {"path": _path(path)}, same)


open, aopen = both(_open)  # noqa: A001 - files.open
read_bytes, aread_bytes = both(_read_bytes)
read_text, aread_text = both(_read_text)
write_bytes, awrite_bytes = both(_write_bytes)
write_text, awrite_text = both(_write_text)
listdir, alistdir = both(_listdir)
stat, astat = both(_stat)

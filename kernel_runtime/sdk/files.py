"""Files of the host, where the owner grants them. Asks for ``files:read:<path>`` and ``files:write:<path>``.

    from kernel_runtime.sdk import files

    with files.open("/data/prices.csv") as file: ...
    files.write_text("/data/out/report.txt", text)

``files.open`` gives an ordinary file, for reading: the host has opened it, and what is read goes no detour. What is
written goes to the host as a whole, up to 4 MiB a call; more is appended.
"""

from __future__ import annotations

import builtins
import os
from typing import IO, TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.sdk.door import Ask, both, nothing, same

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    *("alistdir", "aopen", "aread_bytes", "aread_text", "aremove", "astat", "awrite_bytes", "awrite_text"),
    *("listdir", "open", "read_bytes", "read_text", "remove", "stat", "write_bytes", "write_text"),
]


def __dir__() -> list[str]:
    return __all__


def _path(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.fspath(path))


def _opened(path: str | os.PathLike[str], use: Callable[[int], Any]) -> Ask[Any]:
    def then(answer: tuple[Any, int | None]) -> Any:
        descriptor = answer[1]
        if descriptor is None:
            raise Invalid(f"files: {path} came without a descriptor")
        return use(descriptor)

    return Ask("files", "open", {"path": _path(path), "mode": "r"}, then, opens=True)


def _open(
    path: str | os.PathLike[str], mode: str = "r", encoding: str | None = None, newline: str | None = None
) -> Ask[IO[Any]]:
    """Open a file for reading (``r``, ``rb``) as Python's ``open`` does."""
    if mode not in ("r", "rt", "rb"):
        raise Invalid(f"files: {mode!r}: open is for reading (r, rb); write_text and write_bytes write")
    text = "b" not in mode
    return _opened(
        path,
        lambda descriptor: builtins.open(
            descriptor,
            mode,
            encoding=(encoding or "utf-8") if text else None,
            newline=newline if text else None,
        ),
    )


def _read_bytes(path: str | os.PathLike[str]) -> Ask[bytes]:
    """The whole file."""

    def use(descriptor: int) -> bytes:
        with builtins.open(descriptor, "rb") as file:
            return file.read()

    return _opened(path, use)


def _read_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> Ask[str]:
    """The whole file as text."""

    def use(descriptor: int) -> str:
        with builtins.open(descriptor, encoding=encoding) as file:
            return file.read()

    return _opened(path, use)


def _write_bytes(path: str | os.PathLike[str], data: bytes, *, append: bool = False) -> Ask[int]:
    """Write the whole file in one step, or ``append`` to it; how many bytes were written."""
    arguments = {"path": _path(path), "content": bytes(data), "append": append}
    return Ask("files", "write", arguments, lambda done: done["size"])


def _write_text(
    path: str | os.PathLike[str], text: str, encoding: str = "utf-8", *, append: bool = False
) -> Ask[int]:
    """The same with text; how many bytes were written."""
    return _write_bytes(path, text.encode(encoding), append=append)


def _remove(path: str | os.PathLike[str]) -> Ask[None]:
    """Remove a file."""
    return Ask("files", "remove", {"path": _path(path)}, nothing)


def _listdir(path: str | os.PathLike[str] = ".") -> Ask[list[str]]:
    """The names in a directory."""
    return Ask(
        "files", "list", {"path": _path(path)}, lambda found: [each["name"] for each in found["entries"]]
    )


def _stat(path: str | os.PathLike[str]) -> Ask[dict[str, Any]]:
    """Kind, size and time of a file, as the host tells them."""
    return Ask("files", "stat", {"path": _path(path)}, same)


open, aopen = both(_open)  # noqa: A001 - files.open
read_bytes, aread_bytes = both(_read_bytes)
read_text, aread_text = both(_read_text)
write_bytes, awrite_bytes = both(_write_bytes)
write_text, awrite_text = both(_write_text)
remove, aremove = both(_remove)
listdir, alistdir = both(_listdir)
stat, astat = both(_stat)

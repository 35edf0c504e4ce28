"""Master keys: from the environment, the desktop's keyring, or a private file.

A key is 32 random bytes in base64. Several may be there (one a line, or separated by commas); the
last one seals, all of them open: that is how a key is exchanged without a moment in between.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import importlib.util
import os
import secrets
import stat
from typing import TYPE_CHECKING, Any, Protocol

from kernel_runtime.domain.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VARIABLE = "KERNEL_RUNTIME_MASTER_KEY"
FILE = "master.key"
SIZE = 32
_SERVICE = "kernel-runtime"
_USER = "master-key"


def key_id(key: bytes) -> str:
    """A name for a key that tells nothing about it."""
    return hashlib.sha256(b"kernel-runtime master key\0" + key).hexdigest()[:16]


class Source(Protocol):
    """A place where master keys are kept."""

    name: str
    writable: bool

    def read(self) -> list[bytes]:
        """All keys there, the newest last; none when there are none."""

    def write(self, keys: list[bytes]) -> None:
        """Replace them."""


class InEnvironment:
    """Keys in ``KERNEL_RUNTIME_MASTER_KEY``: for batch and containers."""

    name = f"the variable {VARIABLE}"
    writable = False

    def __init__(self, text: str) -> None:
        self._text = text

    def read(self) -> list[bytes]:
        return _parse(self._text, self.name)

    def write(self, keys: list[bytes]) -> None:
        del keys
        raise Conflict(
            f"{self.name} cannot be changed from here: put the new key behind the old one, after a comma"
        )


class InFile:
    """Keys in a file of mode 600, beside what they seal: against backups and copies of the database
    alone, not against who can read all of it."""

    writable = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def read(self) -> list[bytes]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Invalid(f"{self.path} cannot be read: {error.strerror or error}") from None
        with open(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
                raise Invalid(
                    f"{self.path}: a master key is a file of your own that nobody else can read; chmod 600"
                )
            return _parse(file.read(65536).decode("ascii", "replace"), self.name)

    def write(self, keys: list[bytes]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".part")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(temporary, flags, 0o600), "w", encoding="ascii") as file:
            file.write(_show(keys, "\n") + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)


class InKeyring:
    """Keys in the desktop's keyring, through the library ``keyring``."""

    name = "the keyring"
    writable = True

    def __init__(self, keyring: Any) -> None:
        self._keyring = keyring

    def read(self) -> list[bytes]:
        return _parse(self._keyring.get_password(_SERVICE, _USER) or "", self.name)

    def write(self, keys: list[bytes]) -> None:
        self._keyring.set_password(_SERVICE, _USER, _show(keys, ","))


def sources(environment: Mapping[str, str], directory: Path) -> list[Source]:
    """Where keys may be, in the order in which they are looked for; the first writable takes a new one."""
    found: list[Source] = []
    if text := environment.get(VARIABLE):
        found.append(InEnvironment(text))
    file = InFile(directory / FILE)
    if (keyring := _keyring()) is not None and not file.path.exists():
        found.append(InKeyring(keyring))
    return [*found, file]


def _keyring() -> Any:
    """The library, where it is installed and has a place to keep things."""
    if importlib.util.find_spec("keyring") is None:
        return None
    import keyring
    from keyring.errors import KeyringError

    try:
        usable = keyring.get_keyring().priority >= 1
    except (KeyringError, RuntimeError):
        return None
    return keyring if usable else None


class MasterKeys:
    """The keys of the first source that has any."""

    def __init__(self, places: list[Source]) -> None:
        self._places = places

    def current(self) -> bytes:
        """The key that seals; ``NotFound`` when there is none yet."""
        return self._held()[1][-1]

    def named(self, name: str) -> bytes:
        """The key of that id; ``NotFound`` says which are there instead."""
        place, keys = self._held()
        for key in keys:
            if key_id(key) == name:
                return key
        there = ", ".join(key_id(key) for key in keys)
        raise NotFound(f"the master key {name} that sealed this is not in {place.name}; there: {there}")

    def ensure(self) -> bytes:
        """The key that seals, made if there is none."""
        try:
            return self.current()
        except NotFound:
            return self.add()

    def add(self) -> bytes:
        """A new key behind those that are there."""
        place, keys = self._any_held() or (next(p for p in self._places if p.writable), [])
        new = secrets.token_bytes(SIZE)
        place.write([*keys, new])
        return new

    def keep_only_current(self) -> None:
        """Forget the keys before the last."""
        place, keys = self._held()
        if len(keys) > 1 and place.writable:
            place.write(keys[-1:])

    @property
    def writable(self) -> bool:
        """Whether the place where the keys are takes new ones."""
        held = self._any_held()
        return held is None or held[0].writable

    def _held(self) -> tuple[Source, list[bytes]]:
        held = self._any_held()
        if held is None:
            raise NotFound(f"there is no master key in {' or '.join(place.name for place in self._places)}")
        return held

    def _any_held(self) -> tuple[Source, list[bytes]] | None:
        for place in self._places:
            keys = place.read()
            if keys:
                return place, keys
        return None


def _parse(text: str, place: str) -> list[bytes]:
    words = text.replace(",", " ").split()
    try:
        keys = [base64.b64decode(word, validate=True) for word in words]
    except (binascii.Error, ValueError):
        keys = [b""]
    if any(len(key) != SIZE for key in keys):
        raise Invalid(f"{place}: a master key is {SIZE} bytes in base64")
    return keys


def _show(keys: list[bytes], between: str) -> str:
    return between.join(base64.b64encode(key).decode("ascii") for key in keys)

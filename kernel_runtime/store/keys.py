"""Encryption at rest: AES-256-GCM under keys derived from one that the owner keeps elsewhere."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import Conflict, Damaged, Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE, FILE_VARIABLE = "KERNEL_RUNTIME_CHECKPOINT_KEY", "KERNEL_RUNTIME_CHECKPOINT_KEY_FILE"
_BYTES = 32


class Key:
    """Names chunks and seals what is written. ``id`` tells keys apart and tells nothing of them."""

    def __init__(self, master: bytes) -> None:
        self._master = master
        self.id = self._derive(b"id").hex()[:16]
        self._naming = self._derive(b"names")

    def _derive(self, purpose: bytes) -> bytes:
        return hashlib.blake2b(
            purpose, digest_size=_BYTES, key=self._master, person=b"kernel-runtime"
        ).digest()

    def name(self, chunk: bytes | memoryview) -> bytes:
        """A chunk's name; without the key nobody can tell what has it."""
        return hmac.digest(self._naming, chunk, "sha256")

    def seal(self, scope: str, number: int, data: bytes) -> bytes:
        """Encrypt. ``scope`` has a key of its own, within which ``number`` is used once."""
        sealed: bytes = self._cipher(scope).encrypt(_nonce(number), data, None)
        return sealed

    def open(self, scope: str, number: int, data: bytes) -> bytes:
        """Decrypt; ``Damaged`` if it is not what was sealed."""
        from cryptography.exceptions import InvalidTag

        try:
            data = self._cipher(scope).decrypt(_nonce(number), data, None)
        except InvalidTag:
            raise Damaged(f"{scope} was altered") from None
        return data

    def _cipher(self, scope: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 — imported where a key is used
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._derive(b"scope " + scope.encode()))


class NoKey:
    """Nothing is encrypted."""

    id = ""

    def name(self, chunk: bytes | memoryview) -> bytes:
        return hashlib.sha256(chunk).digest()  # processors have instructions for it

    def seal(self, scope: str, number: int, data: bytes) -> bytes:
        return data

    def open(self, scope: str, number: int, data: bytes) -> bytes:
        return data


def configured(environ: Mapping[str, str] = os.environ) -> Key | NoKey:
    """The owner's key, of the variable or the file that it names."""
    text = environ.get(VARIABLE)
    where = VARIABLE
    if not text and (path := environ.get(FILE_VARIABLE)):
        text, where = _read(path), path
    return Key(_parse(text.strip(), where)) if text else NoKey()


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise Conflict(f"{path}: others can read this key; chmod 600 it")
            return file.read(4096)
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: no key can be read there ({type(error).__name__})") from None


def _parse(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text) if len(text) == 2 * _BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != _BYTES:
        raise Invalid(
            f"{where}: a key is {_BYTES} bytes as hexadecimal or base64 text (openssl rand -hex 32)"
        )
    return key


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "little")

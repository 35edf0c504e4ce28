"""Sealing under keys that the master key wraps: AES-256-GCM, and what a thing is about is authenticated with it.

The ciphers are imported where something is sealed: most apps ask for nothing of it.
"""

from __future__ import annotations

import os

import msgspec

_NONCE = 12
_BYTES = 32


def new_key() -> bytes:
    """A key by chance, of 256 bits."""
    return os.urandom(_BYTES)


def about(*words: str | int | bool) -> bytes:
    """What a sealed thing is bound to: in another's place it does not open."""
    return msgspec.json.encode(["kernel-runtime", 1, *words])


def seal(key: bytes, text: bytes, bound: bytes) -> bytes:
    """Encrypt, with a nonce by chance in front."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, text, bound)


def unseal(key: bytes, sealed: bytes, bound: bytes) -> bytes | None:
    """Decrypt; ``None`` for what was not sealed with this key for this place."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], bound)
    except (InvalidTag, ValueError):
        return None

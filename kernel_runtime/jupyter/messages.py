"""Jupyter messages as bytes: reading signed requests, writing signed messages; no I/O.

A message on the wire is ``[identities…, <IDS|MSG>, signature, header, parent_header,
metadata, content, buffers…]``; the signature covers the four JSON parts. A request's header
is kept as the bytes that came, so that it returns unchanged as ``parent_header``.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.errors import Invalid, ProtocolViolation
from kernel_runtime.wire import check_json

if TYPE_CHECKING:
    from collections.abc import Sequence

DELIMITER = b"<IDS|MSG>"
PROTOCOL = "5.4"
MAX_HEADER = 64 * 1024
MAX_MESSAGE = 256 * MIB
MAX_SIGNATURES = 65_536


class MessageError(Exception):
    """A request that cannot be trusted or read; it is dropped, as ipykernel does."""


class Header(msgspec.Struct, frozen=True):
    """What the front reads of a request's header."""

    msg_id: str
    msg_type: str
    session: str = ""
    subshell_id: str | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A request of a client: ``raw`` is its header as it came; the JSON parts are bytes."""

    identities: list[bytes]
    header: Header
    raw: bytes
    parent: bytes = b"{}"
    metadata: bytes
    content: bytes
    buffers: list[bytes] = []

    @property
    def id(self) -> str:
        """The client's msg_id."""
        return self.header.msg_id

    @property
    def kind(self) -> str:
        """The msg_type."""
        return self.header.msg_type


_headers = msgspec.json.Decoder(Header)


def split_identities(frames: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Routing frames and the rest (signature first); ``MessageError`` without a delimiter."""
    try:
        at = frames.index(DELIMITER)
    except ValueError:
        raise MessageError("no <IDS|MSG> delimiter") from None
    return list(frames[:at]), list(frames[at + 1 :])


def read_header(raw: bytes) -> Header:
    """A header's bytes → ``Header``; bounded in size and depth."""
    if len(raw) > MAX_HEADER:
        raise MessageError(f"a header of {len(raw)} bytes exceeds {MAX_HEADER}")
    try:
        check_json(raw)
        return _headers.decode(raw)
    except (msgspec.DecodeError, ProtocolViolation, UnicodeDecodeError) as error:
        raise MessageError(f"malformed header: {error}") from None


def digest_name(scheme: str) -> str:
    """``"hmac-sha256"`` → ``"sha256"``; ``Invalid`` for what hashlib does not know."""
    name = scheme.removeprefix("hmac-")
    if scheme == name or name not in hashlib.algorithms_available:
        raise Invalid(f"signature_scheme: {scheme!r} is not known; use hmac-sha256")
    return name


class Scribe:
    """Reads and writes the messages of one connection: its key, its session, its counter."""

    def __init__(self, key: bytes, scheme: str = "hmac-sha256", session: str = "") -> None:
        self.session = session or os.urandom(16).hex()
        self._hmac = hmac.new(key, digestmod=digest_name(scheme)) if key else None
        self._seen: dict[bytes, None] = {}
        self._count = 0
        self._header = (
            f'{{"msg_id":"{self.session}_{os.getpid()}_%d","msg_type":"%s","username":"kernel",'
            f'"session":"{self.session}","date":"%s","version":"{PROTOCOL}"}}'
        )

    def sign(self, parts: Sequence[bytes]) -> bytes:
        """Hex digest over ``parts``; empty without a key."""
        if self._hmac is None:
            return b""
        digest = self._hmac.copy()
        for part in parts:
            digest.update(part)
        return digest.hexdigest().encode()

    def read(self, frames: Sequence[bytes]) -> Message:
        """Frames of a ROUTER → a checked request; ``MessageError`` says what is wrong."""
        identities, parts = split_identities(frames)
        if len(parts) < 5:
            raise MessageError(f"{len(parts)} parts after the delimiter, 5 are needed")
        if sum(map(len, parts)) > MAX_MESSAGE:
            raise MessageError(f"a message beyond {MAX_MESSAGE} bytes")
        self._authenticate(parts[0], parts[1:5])
        header = read_header(parts[1])
        return Message(
            identities=identities,
            header=header,
            raw=parts[1],
            parent=parts[2],
            metadata=parts[3] or b"{}",
            content=parts[4] or b"{}",
            buffers=parts[5:],
        )

    def _authenticate(self, signature: bytes, parts: list[bytes]) -> None:
        if self._hmac is None:
            return
        if not hmac.compare_digest(self.sign(parts), signature):
            raise MessageError("wrong signature")
        if signature in self._seen:
            raise MessageError("a signature seen before: replayed")
        self._seen[signature] = None
        if len(self._seen) > MAX_SIGNATURES:
            del self._seen[next(iter(self._seen))]

    def write(
        self,
        kind: str,
        content: bytes,
        parent: bytes = b"{}",
        metadata: bytes = b"{}",
        buffers: Sequence[bytes] = (),
    ) -> list[bytes]:
        """A signed message without identities, its header made here and now."""
        self._count += 1
        date = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        header = (self._header % (self._count, kind, date)).encode()
        parts = [header, parent, metadata, content]
        return [DELIMITER, self.sign(parts), *parts, *buffers]

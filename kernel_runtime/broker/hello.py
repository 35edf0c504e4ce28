"""The first words of a TLS client, as far as they say which server is meant.

Read strictly and within bounds: what is not exactly a ClientHello is refused, not guessed at.
"""

from __future__ import annotations

import msgspec

from kernel_runtime.domain.errors import Invalid

#: Bytes, and records that they may come in: all of them are read anew with each piece that comes.
MAX_HELLO, MAX_RECORDS = 32_768, 32
_HANDSHAKE, _CLIENT_HELLO, _ALERT = 22, 1, 21
_SERVER_NAME, _HOST_NAME = 0, 0
#: Encrypted ClientHello (and its draft's outer extensions): the name that counts would be hidden.
_HIDDEN = frozenset({0xFE0D, 0xFD00})
#: A fatal alert, "unrecognized name": clients say so.
UNRECOGNIZED_NAME = bytes([_ALERT, 3, 3, 0, 2, 2, 112])


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """``name``: the server that is meant, as it was written; ``None`` when it is not said.
    ``hidden``: another one is, encrypted."""

    name: str | None
    hidden: bool


def read_hello(data: bytes) -> Hello | None:
    """``None`` when there is more to come; ``Invalid`` when it is no ClientHello of TLS."""
    message = _message(data)
    return None if message is None else _hello(_Bytes(message))


def _message(data: bytes) -> bytes | None:
    """The first handshake message, out of as many records as it takes."""
    if len(data) > MAX_HELLO:
        raise Invalid(f"a ClientHello of more than {MAX_HELLO} bytes")
    message, place, records = b"", 0, 0
    while place < len(data):
        records += 1
        if records > MAX_RECORDS:
            raise Invalid(f"a ClientHello in more than {MAX_RECORDS} records")
        header = data[place : place + 5]
        if header[0] != _HANDSHAKE or (len(header) > 1 and header[1] != 3):
            raise Invalid("no TLS: only TLS goes through a tunnel")
        length = int.from_bytes(header[3:5], "big")
        if len(header) == 5 and not 0 < length <= 1 << 14:
            raise Invalid("a TLS record without a proper length")
        message += data[place + 5 : place + 5 + length] if len(header) == 5 else b""
        place += 5 + length
        if message and message[0] != _CLIENT_HELLO:
            raise Invalid("no ClientHello")
        whole = 4 + int.from_bytes(message[1:4], "big")
        if len(message) >= max(whole, 4):
            if len(message) != whole or place > len(data):
                raise Invalid("a TLS record that holds more than the ClientHello")
            return message[4:]
    return None


def _hello(body: _Bytes) -> Hello:
    body.take(2 + 32)  # version, random
    for width in (1, 2, 1):  # session, ciphers, compressions
        body.vector(width)
    if body.left == 0:
        return Hello(name=None, hidden=False)
    extensions = _Bytes(body.vector(2))
    body.end()
    seen: dict[int, bytes] = {}
    while extensions.left:
        number = extensions.number(2)
        if number in seen:
            raise Invalid("an extension comes twice")
        seen[number] = extensions.vector(2)
    name = _name(_Bytes(seen[_SERVER_NAME])) if _SERVER_NAME in seen else None
    return Hello(name=name, hidden=not _HIDDEN.isdisjoint(seen))


def _name(extension: _Bytes) -> str:
    names = _Bytes(extension.vector(2))
    extension.end()
    kind, name = names.number(1), names.vector(2)
    names.end()
    if kind != _HOST_NAME or not name:
        raise Invalid("a server name of a kind that is not known")
    try:
        return name.decode("ascii")
    except UnicodeDecodeError:
        raise Invalid("a server name that is no name") from None


class _Bytes:
    """Bytes that are taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._place

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise Invalid("a ClientHello that is cut short")
        self._place += count
        return self._data[self._place - count : self._place]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> bytes:
        """What a length of this width says comes after it."""
        return self.take(self.number(width))

    def end(self) -> None:
        if self.left:
            raise Invalid("a ClientHello with something left over")

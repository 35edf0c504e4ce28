"""The server's name in a ClientHello, read strictly; hellos of the real TLS library, and broken ones."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.broker.hello import MAX_HELLO, MAX_RECORDS, read_hello
from kernel_runtime.domain.errors import Invalid


def spoken(name: str | None) -> bytes:
    """What an ordinary client says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def made(*extensions: tuple[int, bytes], rest: bytes = b"") -> bytes:
    """A hello put together by hand."""
    inner = b"".join(n.to_bytes(2, "big") + len(d).to_bytes(2, "big") + d for n, d in extensions)
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    return record(body + len(inner).to_bytes(2, "big") + inner + rest)


def record(body: bytes, kind: int = 1) -> bytes:
    message = bytes([kind]) + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


def named(*names: bytes, kind: int = 0) -> tuple[int, bytes]:
    entries = b"".join(bytes([kind]) + len(name).to_bytes(2, "big") + name for name in names)
    return 0, len(entries).to_bytes(2, "big") + entries


def test_a_real_hello_names_its_server() -> None:
    hello = read_hello(spoken("api.example.org"))
    assert hello is not None
    assert (hello.name, hello.hidden) == ("api.example.org", False)
    silent = read_hello(spoken(None))
    assert silent is not None
    assert silent.name is None


def test_it_may_come_in_pieces_and_in_several_records() -> None:
    whole = spoken("api.example.org")
    for size in range(len(whole)):
        assert read_hello(whole[:size]) is None
    message = whole[5:]
    cut = b"".join(
        b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece
        for piece in (message[:3], message[3:40], message[40:])
    )
    hello = read_hello(cut)
    assert hello is not None
    assert hello.name == "api.example.org"


def test_it_comes_in_no_more_records_than_are_looked_at() -> None:
    message = spoken("api.example.org")[5:]

    def in_records(count: int) -> bytes:
        pieces = [message[n : n + 1] for n in range(count - 1)] + [message[count - 1 :]]
        return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)

    hello = read_hello(in_records(MAX_RECORDS))
    assert hello is not None
    assert hello.name == "api.example.org"
    with pytest.raises(Invalid, match="records"):
        read_hello(in_records(MAX_RECORDS + 1))


def test_a_hidden_name_is_seen_to_be_hidden() -> None:
    hello = read_hello(made(named(b"front.example"), (0xFE0D, b"secret")))
    assert hello is not None
    assert hello.hidden


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-OpenSSH",
        b"\x80\x2e\x01\x00\x02",  # an SSLv2 hello
        b"\x15\x03\x01\x00\x02\x02\x28",  # an alert
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        record(b"", kind=2),
        record(b"short"),
        made(named(b"a.example"), named(b"b.example")),
        made(named(b"a.example", b"b.example")),
        made(named(b"")),
        made(named(b"a.example", kind=1)),
        made(named(b"caf\xc3\xa9.example")),
        made((0, b"")),
        made((0, b"\x00\x01")),
        made(named(b"a.example"), rest=b"x"),
        made(named(b"a.example"))[:3] + b"\x7f\xff",
        made(named(b"a.example"))[:5] + b"\x01\x00\x00\x04" + bytes(80),
    ],
)
def test_what_is_not_exactly_a_hello_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        read_hello(data)


def test_it_has_bounds() -> None:
    endless = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16_380)
    assert read_hello(endless) is None
    with pytest.raises(Invalid, match=str(MAX_HELLO)):
        read_hello((endless[:5] + bytes(16_384)) * 3)


@given(st.binary(max_size=300), st.integers(0, 299))
def test_nothing_else_comes_out(data: bytes, place: int) -> None:
    mutated = bytearray(spoken("api.example.org"))
    mutated[place : place + len(data)] = data
    for bad in (data, b"\x16\x03\x01" + data, bytes(mutated)):
        try:
            read_hello(bad)
        except Invalid:
            pass

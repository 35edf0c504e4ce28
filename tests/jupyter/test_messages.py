"""Signed messages and ZMTP, on bytes alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import Session

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.jupyter import zmtp
from kernel_runtime.jupyter.messages import MAX_SIGNATURES, MessageError, Scribe

KEY = b"secret"


def client() -> Session:
    return Session(key=KEY)


def test_reads_what_jupyter_client_writes() -> None:
    session = client()
    frames = [b"identity", *session.serialize(session.msg("execute_request", {"code": "1"}))]
    message = Scribe(KEY).read([*frames, b"buffer"])
    assert (message.kind, message.identities, message.buffers) == (
        "execute_request",
        [b"identity"],
        [b"buffer"],
    )


def test_jupyter_client_reads_what_it_writes() -> None:
    parts = Scribe(KEY).write("status", b'{"execution_state":"busy"}', b'{"msg_id":"p"}', b'{"m":1}', [b"b"])
    session = client()
    message = session.deserialize(session.feed_identities(parts)[1])
    assert message["content"] == {"execution_state": "busy"}
    assert message["parent_header"] == {"msg_id": "p"}
    assert message["header"]["msg_type"] == "status"
    assert message["buffers"] == [b"b"]


def test_refuses_forged_replayed_and_cut_messages() -> None:
    session, scribe = client(), Scribe(KEY)
    frames = session.serialize(session.msg("kernel_info_request", {}))
    scribe.read(frames)
    for bad in (frames, [frames[0], b"0" * 64, *frames[2:]], frames[:4], [b"x"], []):
        with pytest.raises(MessageError):
            scribe.read(bad)


def test_without_a_key_nothing_is_signed() -> None:
    scribe = Scribe(b"")
    assert scribe.write("status", b"{}")[1] == b""
    session = Session(key=b"")
    frames = session.serialize(session.msg("kernel_info_request", {}))
    assert scribe.read(frames).kind == scribe.read(frames).kind


def test_an_unknown_scheme_is_an_error_that_names_it() -> None:
    with pytest.raises(Invalid, match="hmac-rot13"):
        Scribe(KEY, "hmac-rot13")


def test_signatures_remembered_are_bounded() -> None:
    scribe = Scribe(KEY)
    scribe._seen = dict.fromkeys(str(n).encode() for n in range(MAX_SIGNATURES))
    session = client()
    scribe.read(session.serialize(session.msg("kernel_info_request", {})))
    assert len(scribe._seen) == MAX_SIGNATURES


@given(st.lists(st.binary(max_size=100), max_size=8))
def test_garbage_is_only_ever_a_message_error(frames: list[bytes]) -> None:
    for given_frames in (frames, [b"<IDS|MSG>", b"", *frames]):
        with pytest.raises(MessageError):
            Scribe(b"").read(given_frames)


READY = zmtp.frame(b"\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB", zmtp.COMMAND)


@given(st.integers(1, 50))
def test_a_subscriber_in_any_pieces(size: int) -> None:
    peer, out, fresh = zmtp.Peer(), b"", []
    data = (
        zmtp.GREETING
        + READY
        + zmtp.frame(b"\1")
        + zmtp.frame(b"\1a")
        + zmtp.frame(b"\4PING\0\0hi", zmtp.COMMAND)
    )
    for start in range(0, len(data), size):
        answer, topics = peer.feed(data[start : start + size])
        out += answer
        fresh += topics
    assert fresh == [b"", b"a"]
    assert b"XPUB" in out
    assert out.endswith(b"\x04PONGhi")
    peer.feed(zmtp.frame(b"\0"))
    assert peer.wants(b"abc")
    assert not peer.wants(b"b")


@given(st.binary(max_size=300))
def test_garbage_from_a_subscriber_is_only_ever_a_zmtp_error(data: bytes) -> None:
    for start in (b"", zmtp.GREETING, zmtp.GREETING + READY):
        peer = zmtp.Peer()
        try:
            peer.feed(start + data)
        except zmtp.ZmtpError:
            continue
        assert len(peer.topics) <= zmtp.MAX_TOPICS

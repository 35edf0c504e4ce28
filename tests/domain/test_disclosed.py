"""The secrets of one session, and what of them another one may be told."""

from __future__ import annotations

import base64

import pytest

from kernel_runtime.domain.disclosed import Disclosed

SECRETS = {"token": b"tok-12345678", "pin": b"48151623"}
BOTH = "tok-12345678 48151623"


@pytest.fixture
def disclosed() -> Disclosed:
    made = Disclosed()
    for name, value in SECRETS.items():
        made.add(name, value)
    return made


def test_what_another_knows_can_be_taken_over() -> None:
    one, other = Disclosed(), Disclosed()
    one.add("pin", SECRETS["pin"])
    one.take(other)
    assert one.text(BOTH) == "tok-12345678 [secret pin]"  # the control
    other.add("token", SECRETS["token"])
    one.take(other)
    assert one.text(BOTH) == "[secret token] [secret pin]"
    assert other.text(BOTH) == "[secret token] 48151623"


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        ([], BOTH),
        ([b"nothing of it, tok-1234567"], BOTH),
        ([b"", b"<tok-12345678>"], "[secret token] 48151623"),
        ([base64.b64encode(b"user:tok-12345678")], "[secret token] 48151623"),
        (["48151623".encode("utf-32-be"), b"tok-12345678"], "[secret token] [secret pin]"),
    ],
)
def test_those_that_stand_in_a_text(disclosed: Disclosed, texts: list[bytes], left: str) -> None:
    assert disclosed.among(*texts).text(BOTH) == left


def test_a_value_within_another_is_found_beside_it(disclosed: Disclosed) -> None:
    disclosed.add("longer", b"tok-12345678-and-more")
    found = disclosed.among(b"tok-12345678-and-more")
    assert found.text("tok-12345678-and-more") == "[secret longer]"
    assert found.text("tok-12345678 alone") == "[secret token] alone"
    assert disclosed.among(b"tok-12345678").text("and-more tok-12345678") == "and-more [secret token]"

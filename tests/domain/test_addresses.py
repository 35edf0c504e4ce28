"""What is the open internet, and what only looks like it."""

import pytest

from kernel_runtime.domain.addresses import LOOPBACK, METADATA, why_closed

CLOSED = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.1.1",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "2002:7f00:1::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2001:10::1",
    "fc00::1",
    "fd12::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
    "100::1",
    "3fff::1",
    "5f00::1",
    "4000::1",
]
OPEN = [
    "1.1.1.1",
    "8.8.8.8",
    "172.32.0.1",
    "172.15.255.255",
    "100.128.0.1",
    "169.253.0.1",
    "192.1.0.1",
    "2606:4700::1",
    "2a00:1450::1",
]


@pytest.mark.parametrize("address", CLOSED)
def test_what_is_not_the_internet_is_named(address: str) -> None:
    assert why_closed(address)


@pytest.mark.parametrize("address", OPEN)
def test_the_internet_is_open(address: str) -> None:
    assert why_closed(address) == ""


def test_the_worst_are_told_apart() -> None:
    assert why_closed("169.254.169.254") == why_closed("fd00:ec2::254") == METADATA
    assert why_closed("127.0.0.2") == why_closed("0.0.0.0") == LOOPBACK


@pytest.mark.parametrize("text", ["", "0x7f000001", "2130706433", "127.1", "0177.0.0.1", "example.org"])
def test_other_spellings_are_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear"):
        why_closed(text)

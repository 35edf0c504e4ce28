"""Host names as they are compared: one spelling for each, and none that two readers read differently."""

from __future__ import annotations

import ipaddress
import re

from kernel_runtime.domain.errors import Invalid

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"\d+|0x[0-9a-f]*")
_LOCAL = ("localhost", "local", "internal", "home.arpa", "localdomain")
_MAX_NAME = 253


def parse_host(text: str, place: str = "host") -> str:
    """``"API.Example.org."`` → ``"api.example.org"``; addresses in their shortest form, without
    brackets; mapped IPv6 as IPv4; other alphabets as ``xn--``. ``Invalid`` for anything doubtful.
    """
    host = text.lower().removesuffix(".")
    if ":" in host:
        return _address6(host[1:-1] if host.startswith("[") and host.endswith("]") else host, place)
    if not host.isascii():
        host = _encoded(host, place)
    labels = host.split(".")
    if len(host) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise Invalid(f"{place}: {text!r} is no host name; write a name like api.example.org")
    if _NUMERIC.fullmatch(labels[-1]):
        return _address4(host, place)
    return host


def _address4(host: str, place: str) -> str:
    """Only four decimal numbers: ``127.1``, ``0x7f000001`` and ``0177.0.0.1`` mean different things to readers."""
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise Invalid(f"{place}: {host!r} is no address; write four decimal numbers") from None


def _address6(host: str, place: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise Invalid(f"{place}: {host!r} is no host and no IPv6 address") from None
    if address.scope_id:
        raise Invalid(f"{place}: {host!r} names a network interface: not reachable from a guest")
    return str(address.ipv4_mapped or address)


def _encoded(host: str, place: str) -> str:
    """IDNA, where both editions agree: a name that comes back different (ß) has two readings."""
    try:
        encoded = host.encode("idna").decode("ascii")
        same = encoded.encode("ascii").decode("idna") == host
    except UnicodeError:
        same = False
    if not same:
        raise Invalid(f"{place}: {host!r} has more than one reading; write its xn-- form")
    return encoded


def is_public_name(host: str) -> bool:
    """Whether ``host`` (as ``parse_host`` gives it) is a name of the open internet by its form:
    no address, and none of the names that mean this machine or this network."""
    if ":" in host or "." not in host or host.replace(".", "").isdigit():
        return False
    return not any(host.endswith(f".{local}") for local in _LOCAL)

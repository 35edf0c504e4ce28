"""Addresses on a page: those in the output itself, and hosts that were granted."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

from kernel_runtime.domain.errors import Invalid

#: Data an output may carry in itself. SVG is not among it: sanitised SVG has a way of its own.
_OWN = re.compile(
    r"data:(?:image/(?:png|jpe?g|gif|webp|bmp|avif)|video/(?:mp4|webm|ogg)|audio/(?:mpeg|mp3|mp4|wav|x-wav|ogg|webm))"
    r"(?:;[\w=.,\- \"]{0,60})?;base64,",
    re.IGNORECASE,
)
_HOST = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::\d{1,5})?")


class Page(msgspec.Struct, frozen=True):
    """What a guest's page may do: ``hosts`` it may call, and whether documents stand in frames.

    No request leaves a frame, but its scripts can make a browser look up a name: at level strict
    there are none.
    """

    hosts: frozenset[str] = frozenset()
    frames: bool = True


#: No host granted, documents in frames.
QUIET = Page()


def parse_hosts(text: str, place: str) -> frozenset[str]:
    """``"cdn.example.org, *.tile.example.org:8443"`` → the hosts; ``Invalid`` names a wrong one."""
    hosts = frozenset(text.replace(",", " ").lower().split())
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise Invalid(
                f"{place}: {host!r} is no host name; write names like cdn.example.org or *.example.org"
            )
    return hosts


def is_own(address: str) -> bool:
    """Whether ``address`` is media in the output itself."""
    return _OWN.match(address) is not None


def is_granted(address: str, hosts: frozenset[str]) -> bool:
    """Whether ``address`` is http(s) at a granted host; ``*.name`` grants what is below a name."""
    if not hosts or "\\" in address or not address.isascii() or not address.isprintable():
        return False
    try:
        parts = urlsplit(address)
        name, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or parts.username is not None or not name:
        return False
    names = (name, *("*." + tail for tail in _tails(name)))
    if port is None or port == {"http": 80, "https": 443}[parts.scheme]:
        return any(each in hosts for each in names)
    return any(f"{each}:{port}" in hosts for each in names)


def _tails(name: str) -> list[str]:
    words = name.split(".")
    return [".".join(words[i:]) for i in range(1, len(words))]

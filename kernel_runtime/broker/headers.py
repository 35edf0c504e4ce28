"""Headers that may be sent for a guest, and those that may be told to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

Headers = list[tuple[str, str]]

MOST, MOST_BYTES = 100, 32_768
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
#: They say how a message is carried from one machine to the next: the host writes its own.
HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "http2-settings", "expect",
})  # fmt: skip
_OURS = HOP_BY_HOP | {"host", "content-length"}
#: What may follow a redirect to another origin; everything else may say who sends it.
_HARMLESS = frozenset({"accept", "accept-language", "content-type", "user-agent"})
AGENT = "kernel-runtime"


def checked(given: Any) -> Headers:
    """What a guest wants sent: a map or pairs of text. ``Invalid`` names what may not be."""
    pairs = list(given.items()) if isinstance(given, dict) else given
    if not isinstance(pairs, (list, tuple)) or len(pairs) > MOST:
        raise Invalid(f"headers are a map of text to text, {MOST} at most")
    headers = [_checked_one(pair) for pair in pairs]
    if sum(len(name) + len(value) for name, value in headers) > MOST_BYTES:
        raise Invalid(f"headers of more than {MOST_BYTES} bytes are not sent")
    return headers


def _checked_one(pair: Any) -> tuple[str, str]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(isinstance(one, str) for one in pair):
        raise Invalid("a header is a name and a value, both text")
    name, value = pair
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name[:100]!a} is no name of a header")
    if name.lower() in _OURS:
        raise Invalid(f"the header {name} is written by the host, not by the guest")
    if not _VALUE.fullmatch(value):
        raise Invalid(f"the header {name} has a line break or another character that no header has")
    return name, value


def to_send(headers: Headers) -> Headers:
    """With what an ordinary client adds. Only encodings that are undone here are asked for."""
    kept = [(name, value) for name, value in headers if name.lower() != "accept-encoding"]
    present = {name.lower() for name, _ in kept}
    usual = {"Accept": "*/*", "User-Agent": AGENT}
    kept += [(name, value) for name, value in usual.items() if name.lower() not in present]
    return [*kept, ("Accept-Encoding", "gzip")]


def across_origins(headers: Headers) -> Headers:
    """What goes along when a redirect leads to another origin."""
    return [(name, value) for name, value in headers if name.lower() in _HARMLESS]


def without_body(headers: Headers) -> Headers:
    """What goes along when a redirect turns a request into a GET."""
    return [(name, value) for name, value in headers if not name.lower().startswith("content-")]


def passed_on(pairs: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of one hop that belong on the next: those that ``Connection`` names do not."""
    pairs = list(pairs)
    named = {
        token.strip().lower()
        for name, value in pairs
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
    dropped = {name.encode() for name in HOP_BY_HOP} | named
    return [(name, value) for name, value in pairs if name.lower() not in dropped]


def told(pairs: Iterable[tuple[bytes, bytes]], undone: bool) -> dict[str, str]:
    """An answer's headers for the guest, names in small letters, several of one name joined.
    ``undone``: the encoding of its content was."""
    dropped = {"content-length", "content-encoding"} if undone else {"content-length"}
    headers: dict[str, str] = {}
    for raw_name, raw_value in passed_on(pairs):
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name not in dropped:
            between = "\n" if name == "set-cookie" else ", "
            headers[name] = f"{headers[name]}{between}{value}" if name in headers else value
    return headers

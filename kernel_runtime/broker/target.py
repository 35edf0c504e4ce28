"""Where a request goes: a URL taken apart once, strictly, and put together from the parts that were decided.

What two readers could read differently is refused: nothing that was decided as one place is sent to another.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit

import msgspec

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.hosts import parse_host
from kernel_runtime.domain.scopes import Kind, Scope, make_scope, split_port

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_URL = 16_384
PORTS = {"http": 80, "https": 443}
#: Letters, digits and what RFC 3986 lets stand in a path or a query, or as a percent sign with two digits.
_SENDABLE = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?\[\]|^`{}\"<>]|%[0-9A-Fa-f]{2})*")
_DOUBTFUL = re.compile(r"[\x00-\x20\x7f\\]")
#: Escapes that hide a detour stay as they are: no rule about paths holds for them.
_PLAIN_ESCAPE = re.compile(r"%(?!2[ef5]|5c|00)[0-9a-f]{2}", re.IGNORECASE)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """``host``: as ``parse_host`` gives it. ``path``: with the query, as it is sent; empty where
    nobody can see it, in a tunnel."""

    scheme: str
    host: str
    port: int
    path: str = "/"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def bracketed(self) -> str:
        """The host as it stands in URLs."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def authority(self) -> str:
        """Host and port, without a port that goes without saying: the ``Host`` header."""
        usual = PORTS.get(self.scheme) == self.port
        return self.bracketed if usual else f"{self.bracketed}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        return (self.scheme, self.host, self.port)

    @property
    def arguments(self) -> dict[str, str]:
        """What rules may be about besides the scope."""
        path = self.path.partition("?")[0]
        plain = _PLAIN_ESCAPE.sub(lambda escape: unquote(escape[0]), path)
        return {"scheme": self.scheme} | ({"path": plain} if path else {})

    def scope(self, method: str) -> Scope:
        """What is asked for when this is requested."""
        return make_scope(Kind.NET, self.host, method, str(self.port))

    def joined(self, location: str) -> Target:
        """Where a redirect leads."""
        return parse_url(urljoin(str(self), location.strip()))


def parse_url(url: str) -> Target:
    """A URL of http or https; ``Invalid`` for anything that could be read in more than one way."""
    url = url.partition("#")[0]
    if len(url) > MAX_URL:
        raise Invalid(f"a URL of more than {MAX_URL} characters is not requested")
    if _DOUBTFUL.search(url):
        raise Invalid(f"{_shown(url)} has a blank, a control character or a backslash in it")
    try:
        parts = urlsplit(url, allow_fragments=False)
    except ValueError as error:
        raise Invalid(f"{_shown(url)} is no URL: {error}") from None
    if parts.scheme not in PORTS:
        raise Invalid(f"{_shown(url)} is no URL of http or https")
    if "@" in parts.netloc:
        raise Invalid("a URL with a user name or a password is not requested: ask for a credential by name")
    host, port = parse_authority(parts.netloc, PORTS[parts.scheme])
    path = _sendable(parts.path or "/")
    _refuse_detours(path)
    query = f"?{_sendable(parts.query)}" if parts.query else ""
    return Target(scheme=parts.scheme, host=host, port=port, path=path + query)


def parse_authority(text: str, port: int) -> tuple[str, int]:
    """``"Host:8080"`` → ``("host", 8080)``; ``port`` when there is none."""
    host, given = split_port(text)
    if given and not (given.isascii() and given.isdecimal() and 0 < int(given) <= 65535):
        raise Invalid(f"{_shown(text)} has no port that there could be")
    if not host:
        raise Invalid("a URL without a host is not requested")
    return parse_host(host), int(given) if given else port


def with_params(url: str, params: Iterable[tuple[str, str]]) -> str:
    """The URL with more in its query."""
    more = urlencode(list(params))
    url = url.partition("#")[0]
    return f"{url}{'&' if '?' in url else '?'}{more}" if more else url


def _sendable(text: str) -> str:
    """Other alphabets as percent escapes."""
    if not text.isascii():
        text = quote(text, safe="%/?&=+;:@!$'()*,[]|^`{}\"<>~")
    if not _SENDABLE.fullmatch(text):
        raise Invalid(f"{_shown(text)} has characters in it that no URL has")
    return text


def _refuse_detours(path: str) -> None:
    """Clients take them out; what is left of them is meant for a reader that decodes more than one does here."""
    segments = re.split(r"[/\\]", unquote(path))
    if any(segment.partition(";")[0] in (".", "..") for segment in segments):
        raise Invalid(f"{_shown(path)} has detours in it (., ..): request the path itself")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 200 else f"{text[:200]}…")

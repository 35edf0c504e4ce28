"""Scopes: what a capability is about, as text and taken apart (``net:*.example.org:8443/GET``).

A scope with wildcards says what may be asked for; one without is what a request asks.
"""

from __future__ import annotations

import difflib
import enum
import re
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.hosts import parse_host

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SCOPE = 4096  # characters
MAX_PATH = MAX_SCOPE - len("files:write:")
#: ``*`` stands for anything; many in one pattern could be slow to match.
MAX_STARS = 4
_NAME = re.compile(r"[A-Za-z0-9_*][A-Za-z0-9_.*-]{0,127}")
_METHOD = re.compile(r"[A-Z]{1,20}|\*")
_PORT = re.compile(r"[1-9]\d{0,4}|\*")


class Kind(enum.StrEnum):
    """What a capability opens. The values are the first word of a scope."""

    NET = "net"
    FILES = "files"
    SECRET = "secret"  # noqa: S105 - the name of a kind
    DB = "db"
    CACHE = "cache"
    EVENTS = "events"
    CALL = "call"
    ENV = "env"
    PROCESS = "process"
    UI = "ui"
    CLOCK = "clock"


#: What may be done with a kind; kinds that are not here know no actions.
ACTIONS: dict[Kind, tuple[str, ...]] = {
    Kind.FILES: ("read", "write"),
    Kind.DB: ("read", "write"),
    Kind.EVENTS: ("publish", "subscribe"),
}
#: Kinds that are about nothing in particular: the word alone is the scope.
BARE = frozenset({Kind.CACHE, Kind.PROCESS, Kind.CLOCK})
#: How each kind is written, for errors and the reference.
FORMS: dict[Kind, str] = {
    Kind.NET: "net:<host>[:port][/METHOD]",
    Kind.FILES: "files:<read|write>:<path>",
    Kind.SECRET: "secret:<name>",
    Kind.DB: "db:<name>:<read|write>",
    Kind.CACHE: "cache",
    Kind.EVENTS: "events:<publish|subscribe>:<topic>",
    Kind.CALL: "call:<app>.<handler>",
    Kind.ENV: "env:<name>",
    Kind.PROCESS: "process",
    Kind.UI: "ui:<panel>",
    Kind.CLOCK: "clock",
}


class Scope(msgspec.Struct, frozen=True, order=True):
    """``target``: host, path, name, topic, ``app.handler``. ``action``: a method, ``read``, … (``*``:
    any method). ``port``: a number, ``*``, or empty for 80 and 443."""

    kind: Kind
    target: str = ""
    action: str = ""
    port: str = ""

    def __str__(self) -> str:
        if self.kind is Kind.NET:
            host = f"[{self.target}]" if ":" in self.target else self.target
            method = "" if self.action == "*" else f"/{self.action}"
            return f"net:{host}{':' if self.port else ''}{self.port}{method}"
        order = (self.target, self.action) if self.kind is Kind.DB else (self.action, self.target)
        return ":".join([self.kind, *(part for part in order if part)])

    @property
    def is_concrete(self) -> bool:
        """Without wildcards: something that can be requested."""
        return "*" not in self.target and "*" not in self.action and self.port != "*"


def parse_scope(text: str, place: str = "scope") -> Scope:
    """Text → ``Scope``; ``Invalid`` names the place, the nearest word there is, or the form."""
    if len(text) > MAX_SCOPE or not text.isprintable():
        raise Invalid(f"{place}: a scope is a short line of printable characters")
    word, _, rest = text.partition(":")
    kind = parse_kind(word, place)
    try:
        return make_scope(kind, *_TAKEN_APART.get(kind, _plain)(rest))
    except Invalid as error:
        raise Invalid(f"{place}: {text!r}: {error}; write {FORMS[kind]}") from None


def parse_request(text: str, place: str = "request") -> Scope:
    """Text → the ``Scope`` of one request: no wildcards, with method and port."""
    scope = parse_scope(text, place)
    if scope.kind is Kind.NET:
        if scope.action == "*":
            raise Invalid(f"{place}: {text!r} is to name a method, like {scope}/GET")
        scope = msgspec.structs.replace(scope, port=scope.port or "443")
    if not scope.is_concrete:
        raise Invalid(f"{place}: {text!r} has a wildcard: a request asks for one thing")
    return scope


def parse_kind(word: str, place: str) -> Kind:
    """The kind of that name; ``Invalid`` with the nearest."""
    try:
        return Kind(word)
    except ValueError:
        near = difflib.get_close_matches(word, list(Kind), 1)
        advice = f"did you mean {str(near[0])!r}?" if near else f"there are {', '.join(Kind)}"
        raise Invalid(f"{place}: no scope begins with {word!r}; {advice}") from None


def make_scope(kind: Kind, target: str, action: str = "", port: str = "") -> Scope:
    """A scope of checked and normalised parts; ``Invalid`` says which is wrong."""
    if kind is Kind.NET:
        return Scope(kind, _host(target), _method(action), _port(port))
    _check_action(kind, action)
    if kind in BARE:
        if target:
            raise Invalid(f"{kind} is about nothing in particular, not {target!r}")
        return Scope(kind)
    if kind is Kind.FILES:
        return Scope(kind, _path(target), action)
    if not _NAME.fullmatch(target) or target.count("*") > MAX_STARS:
        raise Invalid(f"{target!r} is no name (letters, digits, . _ - and * for anything)")
    if kind is Kind.CALL and "." not in target and target != "*":
        raise Invalid(f"{target!r} names no handler")
    return Scope(kind, target, action)


def _plain(rest: str) -> tuple[str, ...]:
    return (rest,)


def _action_first(rest: str) -> tuple[str, ...]:
    action, _, target = rest.partition(":")
    return (target, action)


def _action_last(rest: str) -> tuple[str, ...]:
    target, _, action = rest.rpartition(":")
    return (target, action)


def _net(rest: str) -> tuple[str, ...]:
    address, slash, method = rest.partition("/")
    if slash and not method:
        raise Invalid("no method after the slash")
    host, port = split_port(address)
    return (host, method, port)


def split_port(address: str) -> tuple[str, str]:
    """``"[::1]:80"`` → ``("[::1]", "80")``; ``("host", "")`` without a port."""
    if address.startswith("["):
        host, _, rest = address.partition("]")
        return f"{host}]", rest.removeprefix(":")
    host, colon, port = address.partition(":")
    if colon and not port:
        raise Invalid("no port after the colon")
    return host, port


_TAKEN_APART: dict[Kind, Callable[[str], tuple[str, ...]]] = {
    Kind.NET: _net,
    Kind.FILES: _action_first,
    Kind.EVENTS: _action_first,
    Kind.DB: _action_last,
}


def _host(text: str) -> str:
    if text == "*":
        return text
    star, _, name = text.rpartition("*.")
    if star or "*" in name:
        raise Invalid(f"{text!r}: a wildcard stands for whole labels at the front, like *.example.org")
    host = parse_host(name)
    if text.startswith("*.") and (":" in host or host.replace(".", "").isdigit()):
        raise Invalid(f"{text!r}: an address has no names below it")
    return f"*.{host}" if text.startswith("*.") else host


def _method(text: str) -> str:
    method = (text or "*").upper()
    if not _METHOD.fullmatch(method):
        raise Invalid(f"{text!r} is no method")
    return method


def _port(text: str) -> str:
    if text and (not _PORT.fullmatch(text) or (text != "*" and int(text) > 65535)):
        raise Invalid(f"{text!r} is no port")
    return text


def _check_action(kind: Kind, action: str) -> None:
    known = ACTIONS.get(kind, ())
    if known and action not in known:
        raise Invalid(f"{action!r} is not an action of {kind}; there are {', '.join(known)}")
    if not known and action:
        raise Invalid(f"{kind} knows no actions, not {action!r}")


def _path(text: str) -> str:
    """Absolute and without detours: what is compared is what is opened, and what a person reads."""
    if len(text) > MAX_PATH or not text.isprintable():
        raise Invalid(f"{text[:80]!r} is no short line of printable characters")
    if not text.startswith("/"):
        raise Invalid(f"{text!r} is to be an absolute path")
    parts = text[1:].split("/")
    if parts[-1] == "" and len(parts) > 1:
        parts.pop()
    if any(part in (".", "..") for part in parts) or (parts != [""] and "" in parts):
        raise Invalid(f"{text!r} has detours (., .., //)")
    if "**" in parts[:-1] or any("**" in part and part != "**" for part in parts):
        raise Invalid(f"{text!r}: ** stands alone and last, for everything below a directory")
    if text.count("*") > MAX_STARS + 2:
        raise Invalid(f"{text!r} has too many stars")
    return "/" + "/".join(parts)


def anchored(text: str, base: str, home: str) -> str:
    """A scope or path with ``./`` and ``~/`` replaced by the directories they stand for."""
    for action in ("", "files:read:", "files:write:"):
        if text in (f"{action}.", f"{action}~"):
            return action + (base if text.endswith(".") else home)
        for mark, directory in (("./", base), ("~/", home)):
            if text.startswith(action + mark):
                return f"{action}{directory.rstrip('/')}/{text[len(action) + 2 :]}"
    return text

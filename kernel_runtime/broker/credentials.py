"""Secrets that become a header on the host's side: the guest names one, and never sees it.

A secret's value says by its form what it becomes: ``basic user:password``, ``bearer token``,
``X-Api-Key: value`` (any header); anything else is a bearer token.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, TypeAlias

from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.hosts import is_public_name
from kernel_runtime.domain.redaction import Redactor
from kernel_runtime.domain.scopes import Kind, make_scope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.broker.handler import Demand
    from kernel_runtime.broker.target import Target

#: A secret's name → its value.
Secrets: TypeAlias = "Callable[[str], Awaitable[bytes]]"
_HEADER = re.compile(r"([A-Za-z][A-Za-z0-9-]{0,63}): *(\S(?:.*\S)?)")
_WITH_SCHEME = re.compile(r"(basic|bearer) +(\S.*)", re.IGNORECASE)
_SENDABLE = re.compile(r"[\x20-\x7e]+")


class Credential:
    """One secret as a header. ``redactor`` takes it out of what comes back."""

    def __init__(self, name: str, value: bytes) -> None:
        self.name = name
        self.header, proper = _as_header(name, value)
        parts = {value, proper, self.header[1].encode(), proper.partition(b":")[2]}
        self.redactor = Redactor([(name, part) for part in parts])

    def __repr__(self) -> str:
        return f"Credential({self.name!r})"


async def granted(name: object, target: Target, demand: Demand, secrets: Secrets | None) -> Credential:
    """The credential of that name, if it may be used there. Rules may be about ``use`` and ``host``:
    a grant with ``use = "http"`` does not let a guest read the secret."""
    if not isinstance(name, str):
        raise Invalid("a credential is the name of a secret")
    if target.scheme != "https" and is_public_name(target.host):
        raise Invalid(f"the credential {name!r} would cross the internet unencrypted: request https")
    await demand(
        Request(
            scope=make_scope(Kind.SECRET, name),
            arguments={"use": "http", "host": target.host, **target.arguments},
        )
    )
    if secrets is None:
        raise Invalid("there are no secrets here: none can be used as a credential")
    return Credential(name, await secrets(name))


def _as_header(name: str, value: bytes) -> tuple[tuple[str, str], bytes]:
    """The header, and the secret part of the value alone."""
    text = value.decode("utf-8", "replace").strip()
    if not _SENDABLE.fullmatch(text):
        raise Invalid(f"the secret {name!r} is no credential: a line of printable ASCII characters")
    if match := _WITH_SCHEME.fullmatch(text):
        proper = match[2]
        basic = match[1].lower() == "basic"
        sent = "Basic " + base64.b64encode(proper.encode()).decode() if basic else f"Bearer {proper}"
        return ("Authorization", sent), proper.encode()
    if match := _HEADER.fullmatch(text):
        return (match[1], match[2]), match[2].encode()
    return ("Authorization", f"Bearer {text}"), text.encode()

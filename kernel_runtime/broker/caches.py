"""Which cache there is: ``cache.toml``, written by the operator, beside the policies. Without one, the embedded.

    [cache]
    url = "rediss://cache.internal:6379/0"
    secret = "CACHE_PASSWORD"      # the password, from the secrets

A guest neither chooses nor learns where its values are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.broker.places import SYSTEM, user_file
from kernel_runtime.broker.policies import read_own
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.places import Place
from kernel_runtime.domain.reading import parse_toml, read_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "cache.toml"
_SCHEME = re.compile(r"(redis|rediss|unix|valkey|valkeys)://")
_PASSWORD = re.compile(r"[^/]*://[^/@]*:[^/@]+@|[?&]password=")


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``url``: of Redis or Valkey, without a password; ``secret``: the name of the secret that is it."""

    url: str
    secret: str = ""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    cache: Server


def parse_cache(text: str, name: str) -> Server:
    """The text of a ``cache.toml``; ``Invalid`` names file, line and key."""
    place = Place(name, text)
    server = read_table(parse_toml(text, name), _File, place).cache
    if not _SCHEME.match(server.url):
        raise place.wrong(
            ("cache", "url"), "a cache's url begins with redis://, rediss://, valkey:// or unix://"
        )
    return server


def load_cache(environment: Mapping[str, str], *, system: Path = SYSTEM) -> Server | None:
    """The machine's, or else the person's. A file that somebody else could have written is refused, and so is a
    password in a file that others may read."""
    for policy in (system, user_file(environment)):
        path = policy.parent / FILE
        text = read_own(path, "choice of a cache")
        if text is not None:
            server = parse_cache(text, str(path))
            if path.stat().st_mode & 0o044 and _PASSWORD.search(server.url):
                raise Invalid(f"{path}: others may read this password; name a `secret`, or chmod 600")
            return server
    return None

"""Which databases there are: ``databases.toml``, written by the operator, beside the policies.

    [sales]
    url = "postgresql://reader@db.internal/sales"
    secret = "SALES_PASSWORD"      # the password, from the secrets

A guest knows the names alone; addresses and passwords stay on the host.
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

FILE = "databases.toml"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class Database(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``url``: an SQLAlchemy URL, without a password; ``secret``: the name of the secret that is it. ``role``: what a
    read grant becomes on PostgreSQL before the query runs."""

    url: str
    secret: str = ""
    role: str = ""


def parse_databases(text: str, name: str) -> dict[str, Database]:
    """The text of a ``databases.toml``; ``Invalid`` names file, line and key."""
    place = Place(name, text)
    found = read_table(parse_toml(text, name), dict[str, Database], place)
    for word in found:
        if not _NAME.fullmatch(word):
            raise place.wrong((word,), "a database is called by letters, digits, . _ and -")
    return found


def table_for(name: str) -> str:
    """The head of the table that names a database: a dot in a bare name would begin another table."""
    return f'["{name}"]' if "." in name else f"[{name}]"


def shown_place(environment: Mapping[str, str]) -> str:
    """The person's own file, as they would write it: a guest learns nothing of their home."""
    config = "$XDG_CONFIG_HOME" if environment.get("XDG_CONFIG_HOME") else "~/.config"
    return f"{config}/kernel-runtime/{FILE}"


def load_databases(environment: Mapping[str, str], *, system: Path = SYSTEM) -> dict[str, Database]:
    """The machine's and the person's; where both name one, the machine's holds. A file that somebody else could
    have written is refused, and so is a password in a file that others may read."""
    found: dict[str, Database] = {}
    for policy in (user_file(environment), system):
        path = policy.parent / FILE
        text = read_own(path, "list of databases")
        if text is not None:
            read = parse_databases(text, str(path))
            _refuse_shown_passwords(path, read)
            found |= read
    return found


def _refuse_shown_passwords(path: Path, databases: Mapping[str, Database]) -> None:
    if not path.stat().st_mode & 0o044:
        return
    for name, database in databases.items():
        if re.match(r"[^/]*://[^/@]*:[^/@]+@", database.url):
            raise Invalid(f"{path}: {name}: others may read this password; name a `secret`, or chmod 600")

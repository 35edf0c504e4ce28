"""The tables people write, as they write them: app.toml and policy.toml. The schemas come from these."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec

from kernel_runtime.domain.level import Level
from kernel_runtime.domain.scopes import Kind

Name = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z][a-z0-9_.-]{0,63}$",
        description="at most 64 lower-case letters, digits, _, . and -, a letter first, like monthly-report",
    ),
]
Line = Annotated[str, msgspec.Meta(max_length=500)]
Version = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$",
        description="at most 64 letters, digits, ., + and -, a letter or digit first, like 1.2.0",
    ),
]
Entry = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="a module and a function in it with a colon between, like report.monthly:main",
    ),
]
Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = str | int | float


class QuotaTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much in each period. ``bytes`` like ``"10M"``."""

    calls: Count | None = None
    bytes: str | Count | None = None
    per: Literal["hour", "day", "total"] = "total"


class ConditionTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``when`` like ``Mon-Fri 08:00-18:00`` (local time, or with ``UTC``), ``until`` a date with time,
    ``rate`` like ``60/min``, ``quota``, ``arguments`` by name with ``*`` for anything, ``tenants``."""

    when: Line | None = None
    until: dt.datetime | None = None
    rate: Line | None = None
    quota: QuotaTable | None = None
    arguments: dict[str, str] = {}
    tenants: tuple[str, ...] | None = None


class RuleTable(ConditionTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scope with conditions, and the reason that is told with a decision."""

    scope: str
    reason: Line = ""


class PolicyTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``policy.toml``. A rule is a scope, or a table with ``scope``. ``default``: what becomes of
    requests no rule speaks of. ``trusted_projects``: directories whose own policies may allow.
    ``check``: rules for reading source, see kernel-runtime check."""

    default: Literal["ask", "deny"] = "ask"
    allow: tuple[str | RuleTable, ...] = ()
    ask: tuple[str | RuleTable, ...] = ()
    deny: tuple[str | RuleTable, ...] = ()
    trusted_projects: tuple[str, ...] = ()
    check: dict[str, Any] = {}


class PermissionTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``type`` is the first word of a scope, ``resource`` what it is about (host, path, name, topic),
    ``actions`` methods, read, write, publish, subscribe. An empty list of actions asks for nothing."""

    type: Kind
    resource: str = ""
    actions: tuple[str, ...] | None = None
    conditions: ConditionTable = ConditionTable()
    reason: Line = ""


class UiTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the app is shown: a title, and the panels it brings."""

    title: Line = ""
    panels: tuple[Name, ...] = ()


class SecurityTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``level``: the least strict that will do. ``allowed_domains``: bounds every net permission;
    an empty list is no network. ``blocked_apis``: calls the app promises not to make.
    ``audit_logging``: every decision is written down whatever it says, so it can say nothing but true."""

    level: Level | None = None
    allowed_domains: tuple[str, ...] | None = None
    blocked_apis: tuple[str, ...] = ()
    data_encryption: bool = False
    audit_logging: Annotated[bool, msgspec.Meta(extra_json_schema={"const": True})] = True


class ManifestTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``app.toml``: what an app is, and what it asks for. ``permissions`` left out: nothing is
    declared, everything may be asked for; an empty list: nothing is needed, all is denied."""

    id: Name
    name: Line = ""
    version: Version = "0"
    description: Annotated[str, msgspec.Meta(max_length=10_000)] = ""
    entry_points: dict[str, Entry] = {}
    permissions: tuple[PermissionTable, ...] | None = None
    limits: dict[str, Amount] = {}
    dependencies: tuple[Line, ...] = ()
    ui: UiTable = UiTable()
    security: SecurityTable = SecurityTable()

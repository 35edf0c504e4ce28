"""Manifests: what an app is and asks for. A manifest asks, it never grants."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.condition_tables import read_conditions
from kernel_runtime.domain.conditions import Conditions, parse_pattern, parse_quota
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.limits import OF_APPS, Limits, parse_bytes, parse_limits
from kernel_runtime.domain.matching import Index, covers
from kernel_runtime.domain.places import Place, advice
from kernel_runtime.domain.reading import parse_toml, read_table
from kernel_runtime.domain.rules import Ask
from kernel_runtime.domain.scopes import ACTIONS, Kind, Scope, anchored, make_scope, split_port
from kernel_runtime.domain.tables import ManifestTable, PermissionTable

if TYPE_CHECKING:
    from kernel_runtime.domain.level import Level

#: Words of a notebook's table that are none of the manifest's: settings of the kernel, and how it was run.
BESIDE = ("level", "flood", "run")
#: The comments around the manifest of a cell.
HEAD, FOOT = "# /// app", "# ///"
_CALLS = re.compile(r"(\d{1,12})(?:\s*/\s*(hour|day|total))?")


_NO_VERSION = "0"
_AUDITED = "every decision is written down, and no app can have it otherwise: leave it out, or write true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest that was read. ``asks``: scopes, indexed; ``None``: it declares nothing.

    ``stamp`` changes with every word of it: a grant that was remembered is for one stamp. ``holder`` does not:
    grants and counts are kept under it, so that neither a new version nor another id begins to count anew.
    ``calls``: the quota of all requests together; ``storage``: bytes. ``encrypted``: what it keeps is to be sealed.
    """

    id: str
    name: str
    version: str = _NO_VERSION
    stamp: str = ""
    holder: str
    asks: Index[Ask] | None = None
    limits: dict[str, object]
    calls: Conditions | None = None
    storage: int | None = None
    level: Level | None = None
    encrypted: bool = False
    table: ManifestTable
    place: str = ""

    @property
    def said_version(self) -> str:
        """What it says about its version; empty where it says nothing."""
        return "" if self.version == _NO_VERSION else self.version

    @property
    def title(self) -> str:
        """Name and version, for a person."""
        return f"{self.name} {self.said_version}".strip()

    def tightened(self, limits: Limits, level: Level) -> tuple[Limits, Level]:
        """What an app says it can live with holds where it is less than what it is given."""
        wanted = msgspec.structs.replace(limits, **self.limits)
        return limits.tightened(wanted), min(level, self.level or level, key=lambda one: one.rank)


@dataclass(frozen=True, slots=True)
class Anchors:
    """What ``./`` and ``~/`` mean in a file."""

    base: str = "/"
    home: str = "/"


def undeclared(name: str) -> Manifest:
    """The manifest of something that has none: it declares nothing, so everything may be asked for."""
    return build_manifest(ManifestTable(id=slug(name), name=name), Place(name, ""), Anchors())


def parse_manifest(text: str, name: str, anchors: Anchors) -> Manifest:
    """The text of an ``app.toml``."""
    place = Place(name, text)
    return build_manifest(_table(parse_toml(text, name), place), place, anchors)


def parse_pyproject(text: str, name: str, anchors: Anchors) -> Manifest:
    """``[tool.kernel-runtime]``; id, version and description are the project's unless it says otherwise."""
    whole = parse_toml(text, name)
    table = _at(whole, "tool", "kernel-runtime")
    if table is None:
        raise Invalid(f"{name}: there is no table [tool.kernel-runtime]")
    project = _at(whole, "project") or {}
    own = {key: project[key] for key in ("version", "description") if isinstance(project.get(key), str)}
    if isinstance(project.get("name"), str):
        own |= {"id": slug(project["name"]), "name": project["name"]}
    place = Place(name, text, ("tool", "kernel-runtime"))
    return build_manifest(_table(own | table, place), place, anchors)


def has_table(text: str, name: str) -> bool:
    """Whether a pyproject.toml speaks of an app at all."""
    return _at(parse_toml(text, name), "tool", "kernel-runtime") is not None


def parse_notebook(text: str, name: str, stem: str, anchors: Anchors) -> Manifest:
    """The table ``kernel_runtime`` of a notebook's metadata; the id is the file's name unless it says otherwise."""
    try:
        whole = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"{name}: not valid JSON: {error}") from None
    place = Place(name, text, ("metadata", "kernel_runtime"))
    table = read_table((_at(whole, "metadata") or {}).get("kernel_runtime", {}), dict, place)
    own = {key: value for key, value in table.items() if key not in BESIDE}
    return build_manifest(_table({"id": slug(stem), "name": stem} | own, place), place, anchors)


def parse_cell(text: str, name: str, stem: str, anchors: Anchors) -> Manifest:
    """The head of a ``%%app`` cell, written as inline script metadata (PEP 723) of type ``app``; the id is ``stem``
    unless it says otherwise. ``text``: of the whole cell, its first line is the magic's."""
    head = _head(text.splitlines(), name)
    place = Place(name, head)
    own = {"id": slug(stem), "name": stem} | parse_toml(head, name)
    return build_manifest(_table(own, place), place, anchors)


def _head(lines: list[str], name: str) -> str:
    """What stands in the head's comments, each line where it was."""
    begun = next((n for n, line in enumerate(lines) if n and line.strip()), None)
    if begun is None or lines[begun].rstrip() != HEAD:
        raise Invalid(
            f"{name}: the cell does not begin with its manifest: comments from {HEAD!r} to {FOOT!r}"
        )
    found = [""] * (begun + 1)
    for line in lines[begun + 1 :]:
        if line.rstrip() == FOOT:
            return "\n".join(found)
        if not line.startswith("#"):
            break
        found.append(line[1:].removeprefix(" "))
    raise Invalid(f"{name}:{begun + 1}: the manifest has no end: {FOOT!r} on a line of its own")


def _at(whole: object, *path: str) -> dict[str, Any] | None:
    for key in path:
        whole = whole.get(key) if isinstance(whole, dict) else None
    return whole if isinstance(whole, dict) else None


def slug(name: str) -> str:
    """A name as an id: lower case, no spaces; ``app`` when nothing is left."""
    text = re.sub(r"[^a-z0-9_.-]+", "-", name.lower()).lstrip("0123456789_.-").rstrip("-")
    return text[:64] or "app"


def _table(table: dict[str, Any], place: Place) -> ManifestTable:
    """What was written, as a struct. A limit that there is not is told first, whatever its value is."""
    limits, names = table.get("limits"), (*Limits.__struct_fields__, *OF_APPS)
    for name in limits if isinstance(limits, dict) else ():
        if name not in names:
            raise place.wrong(("limits", name), f"no limit is called {name!r}; {advice(name, names)}")
    return read_table(table, ManifestTable, place)


def build_manifest(table: ManifestTable, place: Place, anchors: Anchors) -> Manifest:
    """The table → what decisions need; ``Invalid`` names the place of what makes no sense."""
    asks = None if table.permissions is None else Index(_asks(table, place, anchors))
    calls = _calls(table, place)
    if not table.security.audit_logging:
        raise place.wrong(("security", "audit_logging"), _AUDITED, "false")
    for number, pattern in enumerate(table.security.blocked_apis):
        _at_place(place, ("security", "blocked_apis", number), parse_pattern, pattern)
    return Manifest(
        id=table.id,
        name=table.name or table.id,
        version=table.version,
        holder=table.id,
        stamp=hashlib.sha256(msgspec.json.encode(table, order="sorted")).hexdigest()[:16],
        asks=asks,
        limits=_limits(table, place),
        calls=calls,
        storage=_storage(table, place),
        level=table.security.level,
        encrypted=table.security.data_encryption,
        table=table,
        place=place.name,
    )


def _asks(table: ManifestTable, place: Place, anchors: Anchors) -> list[Ask]:
    bounds = _bounds(table, place)
    asks = []
    for number, permission in enumerate(table.permissions or ()):
        path = ("permissions", number)
        conditions = read_conditions(permission.conditions, place, (*path, "conditions"))
        for scope in _scopes(permission, place, path, anchors):
            if scope.kind is Kind.NET and bounds is not None and not any(covers(b, scope) for b in bounds):
                message = f"{scope.target!r} is not among security.allowed_domains"
                raise place.wrong((*path, "resource"), message, scope.target)
            ask = Ask(
                scope=scope, conditions=conditions, place=f"permissions[{number}]", reason=permission.reason
            )
            asks.append(ask)
    return asks


def _scopes(
    permission: PermissionTable, place: Place, path: tuple[str, int], anchors: Anchors
) -> list[Scope]:
    kind, target, port = permission.type, permission.resource, ""
    if permission.actions is None and kind in ACTIONS:
        raise place.wrong(path, f"{kind} needs actions: some of {', '.join(ACTIONS[kind])}")
    actions = ("",) if permission.actions is None else permission.actions
    if kind is Kind.NET:
        target, port = _at_place(place, (*path, "resource"), split_port, target)
    elif kind is Kind.FILES:
        target = anchored(target, anchors.base, anchors.home)
    try:
        return [make_scope(kind, target, action, port) for action in actions]
    except Invalid as error:
        key = "actions" if "action" in str(error) or "method" in str(error) else "resource"
        raise place.wrong((*path, key), str(error)) from None


def _bounds(table: ManifestTable, place: Place) -> list[Scope] | None:
    domains = table.security.allowed_domains
    if domains is None:
        return None
    return [
        _at_place(place, ("security", "allowed_domains", number), _domain, domain)
        for number, domain in enumerate(domains)
    ]


def _domain(text: str) -> Scope:
    return make_scope(Kind.NET, text, "", "*")


def _limits(table: ManifestTable, place: Place) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, amount in table.limits.items():
        if name not in OF_APPS:
            limits = _at_place(
                place, ("limits", name), lambda a, n=name: parse_limits({n: a}, place=""), amount
            )
            found[name] = getattr(limits, name)
    return found


def _storage(table: ManifestTable, place: Place) -> int | None:
    amount = table.limits.get("storage")
    return None if amount is None else _at_place(place, ("limits", "storage"), parse_bytes, amount)


def _calls(table: ManifestTable, place: Place) -> Conditions | None:
    amount = table.limits.get("api_calls")
    if amount is None:
        return None
    match = _CALLS.fullmatch(str(amount))
    if match is None:
        raise place.wrong(("limits", "api_calls"), f"{amount!r} is to be a number, or one like 1000/day")
    return Conditions(quota=parse_quota(int(match[1]), None, match[2] or "total"))


def _at_place(place: Place, path: tuple[str | int, ...], parse: Any, value: object) -> Any:
    """What ``parse`` makes of a value; its complaint gets the place."""
    try:
        return parse(value)
    except Invalid as error:
        raise place.wrong(path, re.sub(r"^\.?\w*: ", "", str(error))) from None

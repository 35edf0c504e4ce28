"""Decisions once more, slowly and otherwise: over texts, with regular expressions, one rule after the other."""

from __future__ import annotations

import fnmatch
import re
from datetime import UTC, datetime, timedelta
from typing import Any

LOCAL = ("localhost", "local", "internal", "home.arpa", "localdomain")


def matches(pattern: str, request: str) -> bool:
    """Both as texts; the request with method and port."""
    kind, _, rest = pattern.partition(":")
    wanted_kind, _, wanted = request.partition(":")
    if kind != wanted_kind:
        return False
    if kind == "net":
        return _net(rest, wanted)
    if kind == "files":
        action, _, path = rest.partition(":")
        wanted_action, _, wanted_path = wanted.partition(":")
        return action == wanted_action and re.fullmatch(_path(path), wanted_path) is not None
    return fnmatch.fnmatchcase(wanted, rest)


def _net(rest: str, wanted: str) -> bool:
    shape = re.compile(r"(?P<host>[^:/]+)(?::(?P<port>[^/]+))?(?:/(?P<method>.+))?")
    p, w = shape.fullmatch(rest), shape.fullmatch(wanted)
    assert p and w
    ports = {None: {"80", "443"}, "*": {w["port"]}}.get(p["port"], {p["port"]})
    return p["method"] in (None, w["method"]) and w["port"] in ports and _host(p["host"], w["host"])


def _host(pattern: str, host: str) -> bool:
    if pattern == "*":
        labels = host.split(".")
        numeric = all(label.isdigit() for label in labels)
        return len(labels) > 1 and not numeric and not any(host.endswith("." + tail) for tail in LOCAL)
    return host == pattern or (pattern.startswith("*") and host.endswith(pattern[1:]))


def _path(pattern: str) -> str:
    below = pattern.endswith("/**")
    body = "".join("[^/]*" if c == "*" else re.escape(c) for c in pattern.removesuffix("/**"))
    return body + ("(/.*)?" if below else "")


def holds(conditions: dict[str, Any], case: dict[str, Any], used: dict[str, Any] | None) -> bool:
    """Whether what allows may: everything known, and everything in order."""
    if "until" in conditions and max(case["now"], case["latest"]) >= conditions["until"]:
        return False
    if "tenants" in conditions and case["tenant"] not in conditions["tenants"]:
        return False
    if "hours" in conditions and (case["latest"] - case["now"] > 60 or not _in_hours(conditions, case)):
        return False
    for name, pattern in conditions.get("arguments", {}).items():
        value = case["arguments"].get(name)
        if value is None or ".." in value or not fnmatch.fnmatchcase(value, pattern):
            return False
    if "calls" in conditions and used and used["calls"] >= conditions["calls"]:
        return False
    return not ("rate" in conditions and used and used["tokens"] < 1)


def may_hold(conditions: dict[str, Any], case: dict[str, Any]) -> bool:
    """Whether what forbids may: unless something is certainly not so."""
    doubt = case["latest"] - case["now"] > 60
    if "until" in conditions and not doubt and case["now"] >= conditions["until"]:
        return False
    if "tenants" in conditions and case["tenant"] and case["tenant"] not in conditions["tenants"]:
        return False
    if "hours" in conditions and not doubt and not _in_hours(conditions, case):
        return False
    for name, pattern in conditions.get("arguments", {}).items():
        value = case["arguments"].get(name)
        if value is not None and ".." not in value and not fnmatch.fnmatchcase(value, pattern):
            return False
    return True


def _in_hours(conditions: dict[str, Any], case: dict[str, Any]) -> bool:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=case["now"])
    begin, end = conditions["hours"]
    days = conditions["days"]
    if begin < end:
        return moment.weekday() in days and begin <= moment.hour < end
    yesterday = (moment - timedelta(days=1)).weekday()
    return (moment.hour >= begin and moment.weekday() in days) or (moment.hour < end and yesterday in days)


def decide(case: dict[str, Any]) -> str:
    """``allow``, ``ask`` or ``deny`` for a case of plain texts and numbers."""
    request = case["request"]
    hits = [rule for rule in case["rules"] if matches(rule["scope"], request)]
    if any(rule["effect"] == "deny" and may_hold(rule["conditions"], case) for rule in hits):
        return "deny"
    if case["asks"] is not None:
        asked = [ask for ask in case["asks"] if matches(ask["scope"], request)]
        if not any(holds(ask["conditions"], case, case["used"](ask)) for ask in asked):
            return "deny"
    for layer in ("system", "user", "project", "given"):
        allowing = [rule for rule in hits if rule["effect"] == "allow" and rule["layer"] == layer]
        if allowing and not any(holds(rule["conditions"], case, case["used"](rule)) for rule in allowing):
            return "deny"
    for grant in case["grants"]:
        mine = grant["app"] in ("", case["app"]) and grant["session"] in ("", case["session"])
        if (
            mine
            and matches(grant["scope"], request)
            and holds(grant["conditions"], case, case["used"](grant))
        ):
            return "allow"
    if any(rule["effect"] == "ask" and may_hold(rule["conditions"], case) for rule in hits):
        return "ask"
    if any(rule["effect"] == "allow" for rule in hits):
        return "ask" if case["confirm"] else "allow"
    return str(case["default"])

"""The policy of the check: which modules, names, calls and magics a reader should look at.

Advice, not a wall: Python has more ways to reach a thing than a reader of source can follow.
"""

from __future__ import annotations

import enum
import functools
import re
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.amounts import counted
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.places import advice

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = ("module", "name", "call", "magic")
MAX_POLICY = 1 << 20  # characters
#: What the same file may say about capabilities (``domain/tables.py``): not for the check.
CAPABILITY_KEYS = ("default", "allow", "ask", "deny", "trusted_projects")
_CHECK_KEYS = ("block", "allow", "default")
_RULE_KEYS = (*KINDS, "severity", "suggestion")
_MAX_PATTERN = 200
#: ``*`` stands for anything; many of them in one pattern could be slow to match.
_MAX_STARS = 3
#: What a file that nobody trusts may have: reading a cell must not take long.
_MAX_FOREIGN_STARS, _MAX_FOREIGN_RULES = 1, 256
_MAX_REMEMBERED = 4096


class Severity(enum.StrEnum):
    """``error``: the check fails (and `strict` refuses); ``warning``, ``info``: it is said."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 is the gravest."""
        return list(Severity).index(self)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to speak about. ``kind`` is module, name, call or magic; in ``pattern`` a ``*``
    stands for anything. A module's rule holds for its submodules, too."""

    kind: str
    pattern: str
    severity: Severity = Severity.ERROR
    suggestion: str = ""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """``[check]`` of one file: its ``rules``, what it allows, and whether the package's rules hold beside them
    (``default``). What is not ``trusted`` lifts nothing."""

    rules: tuple[Rule, ...] = ()
    allow: tuple[str, ...] = ()
    default: bool = True
    trusted: bool = True


class Policy:
    """Rules in order, the first that matches speaks; ``allow``: patterns that no rule is applied to."""

    def __init__(self, rules: Iterable[Rule] = (), allow: Iterable[str] = ()) -> None:
        self.rules = tuple(rules)
        self.allow = tuple(allow)
        grave = [
            r.pattern for r in self.rules if r.kind in ("call", "module") and r.severity is Severity.ERROR
        ]
        self._leaves = frozenset(pattern.rpartition(".")[2] for pattern in grave) - {"*"}
        self._found: dict[tuple[str, str], Rule | None] = {}
        self._spoken: dict[str, bool] = {}

    def find(self, kind: str, path: str) -> Rule | None:
        """The rule for ``path`` (``os.system``, ``eval``, ``!``)."""
        key = (kind, path)
        if key not in self._found:  # a notebook uses the same few names again and again
            _make_room(self._found)
            self._found[key] = self._search(kind, path)
        return self._found[key]

    def _search(self, kind: str, path: str) -> Rule | None:
        if self.allows(path):
            return None
        for rule in self.rules:
            if rule.kind == kind and _holds(rule, path):
                return rule
        return None

    def allows(self, path: str) -> bool:
        """Whether it was lifted from the rules: itself, or what it is a part of."""
        return any(_matches(pattern, path) or path.startswith(f"{pattern}.") for pattern in self.allow)

    def speaks_of(self, attribute: str) -> bool:
        """Whether ``something.attribute`` may be what a rule of severity error is about."""
        if attribute not in self._spoken:
            _make_room(self._spoken)
            self._spoken[attribute] = any(_matches(leaf, attribute) for leaf in self._leaves)
        return self._spoken[attribute]


class Tightened(Policy):
    """``policy`` with rules before it that nothing lifts: it refuses more, never less."""

    def __init__(self, policy: Policy, blocked: Iterable[Rule]) -> None:
        self._blocked, self._policy = Policy(blocked), policy
        super().__init__((*self._blocked.rules, *policy.rules), policy.allow)

    def _search(self, kind: str, path: str) -> Rule | None:
        return self._blocked.find(kind, path) or self._policy.find(kind, path)

    def allows(self, path: str) -> bool:
        """Not what is blocked."""
        return self._policy.allows(path) and not any(self._blocked.find(kind, path) for kind in KINDS)


class Joined(Policy):
    """The sections of several files over the ``package``'s policy: of those that speak of a thing, the gravest. A section
    that is trusted lifts the package's rules, never another's."""

    def __init__(self, package: Policy, sections: Iterable[Section]) -> None:
        given = tuple(sections)
        mine = [section for section in given if section.trusted]
        kept = package if all(section.default for section in mine) else Policy()
        self._package = Policy(kept.rules, (*(p for section in mine for p in section.allow), *kept.allow))
        self._mine = [
            Policy(section.rules, (*section.allow, *(package.allow if section.default else ())))
            for section in mine
        ]
        self._foreign = [Policy(section.rules) for section in given if not section.trusted]
        parts = (*self._mine, *self._foreign, self._package)
        super().__init__([rule for part in parts for rule in part.rules], self._package.allow)

    def _search(self, kind: str, path: str) -> Rule | None:
        found = _gravest(self._mine, kind, path) or self._package.find(kind, path)
        return min(filter(None, (found, _gravest(self._foreign, kind, path))), key=_gravity, default=None)

    def allows(self, path: str) -> bool:
        """Not what another section speaks of."""
        return super().allows(path) and not any(self.find(kind, path) for kind in KINDS)


def _gravest(policies: Iterable[Policy], kind: str, path: str) -> Rule | None:
    found = (policy.find(kind, path) for policy in policies)
    return min(filter(None, found), key=_gravity, default=None)


def _gravity(rule: Rule) -> int:
    return rule.severity.rank


def promised(apis: Iterable[str]) -> list[Rule]:
    """The rules of what an app's manifest says that it does not use (``security.blocked_apis``): built-ins, functions by
    their full path, modules."""
    why = "its manifest says that it does not use this (security.blocked_apis)"
    return [
        Rule(kind=kind, pattern=api, suggestion=why) for api in apis for kind in ("module", "call", "name")
    ]


def _make_room(memory: dict[Any, Any]) -> None:
    if len(memory) >= _MAX_REMEMBERED:
        memory.clear()


def _holds(rule: Rule, path: str) -> bool:
    if _matches(rule.pattern, path):
        return True
    return rule.kind == "module" and path.startswith(f"{rule.pattern}.")


def _matches(pattern: str, path: str) -> bool:
    if "*" not in pattern:
        return pattern == path
    return _compiled(pattern).fullmatch(path) is not None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def parse_policy(text: str, place: str, default: Policy | None = None) -> Policy:
    """TOML → ``Policy``; ``Invalid`` names file, line, key and the nearest key there is.

    The rules of ``default`` come after the file's own, unless the file says ``default = false``.
    """
    section = parse_section(text, place) or Section()
    return Joined(default, [section]) if default is not None else Policy(section.rules, section.allow)


def parse_section(text: str, place: str) -> Section | None:
    """``[check]`` of a policy file; None where it has none. ``Invalid`` as ``parse_policy``."""
    if len(text) > MAX_POLICY:
        raise Invalid(f"{place}: a policy of more than {MAX_POLICY} characters is not read")
    try:
        whole = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Invalid(f"{place}: not valid TOML: {error}") from None
    reading = _Reading(text, place)
    reading.keys(whole, ("check", *CAPABILITY_KEYS), "")
    reading.scopes(whole)
    return check_table(whole["check"], text, place) if "check" in whole else None


def check_table(table: object, text: str, place: str, *, trusted: bool = True) -> Section:
    """The table ``[check]`` of a policy whose ``text`` was read before."""
    reading = _Reading(text, place, trusted=trusted)
    check = reading.table(table, "check")
    reading.keys(check, _CHECK_KEYS, "check")
    blocked = reading.array(check.get("block", []), "check.block")
    if not trusted and len(blocked) > _MAX_FOREIGN_RULES:
        raise reading.wrong(
            "check.block", f"more than {_MAX_FOREIGN_RULES} rules in a project that nobody trusts"
        )
    allowed = reading.array(check.get("allow", []), "check.allow")
    return Section(
        rules=tuple(reading.rule(item, f"check.block[{index}]") for index, item in enumerate(blocked)),
        allow=tuple(reading.pattern(item, "check.allow") for item in allowed),
        default=reading.flag(check.get("default", True), "check.default"),
        trusted=trusted,
    )


class _Reading:
    """Takes a policy apart; every complaint carries file, line and key."""

    def __init__(self, text: str, place: str, *, trusted: bool = True) -> None:
        self._lines = text.splitlines()
        self._place = place
        self._stars = _MAX_STARS if trusted else _MAX_FOREIGN_STARS

    def wrong(self, key: str, text: str, near: object = None) -> Invalid:
        line = self._line_of(key.rpartition(".")[2] if near is None else str(near))
        where = f"{self._place}:{line}" if line else self._place
        return Invalid(f"{where}: {key}: {text}" if key else f"{where}: {text}")

    def _line_of(self, word: str) -> int | None:
        """tomllib tells no lines: the first that has the word is the one, or near it."""
        found = re.compile(rf"(?<![\w-]){re.escape(word.partition('[')[0])}(?![\w-])")
        for number, line in enumerate(self._lines, 1):
            if found.search(line.partition("#")[0]):
                return number
        return None

    def keys(self, table: dict[str, Any], known: Iterable[str], key: str) -> None:
        names = tuple(known)
        for name in table:
            if name not in names:
                raise self.wrong(key, f"no key is called {name!r}; {advice(name, names)}", name)

    def scopes(self, whole: dict[str, Any]) -> None:
        """``allow`` of ``[check]`` written outside of it would be lost: what stands there are scopes."""
        items = [
            (key, item) for key in ("allow", "ask", "deny") for item in self.array(whole.get(key, []), key)
        ]
        for key, item in items:
            from kernel_runtime.domain.scopes import Kind

            scope = item.get("scope") if isinstance(item, dict) else item
            if str(scope).partition(":")[0] not in list(Kind):
                raise self.wrong(
                    key, f"{scope!r} is no scope; what the check allows stands below [check]", scope
                )

    def table(self, value: object, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong(key, "is to be a table")
        return value

    def array(self, value: object, key: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.wrong(key, "is to be a list")
        return value

    def flag(self, value: object, key: str) -> bool:
        if not isinstance(value, bool):
            raise self.wrong(key, "is to be true or false")
        return value

    def pattern(self, value: object, key: str) -> str:
        if not isinstance(value, str) or not value.strip() or len(value) > _MAX_PATTERN:
            raise self.wrong(key, 'is to be text like "os.system" or "os.exec*"')
        if value.count("*") > self._stars:
            raise self.wrong(key, f"{value!r} has more than {counted(self._stars, 'star')}", value)
        return value.strip()

    def rule(self, item: object, key: str) -> Rule:
        rule = self.table(item, key)
        self.keys(rule, _RULE_KEYS, key)
        kinds = [kind for kind in KINDS if kind in rule]
        if len(kinds) != 1:
            found = " and ".join(kinds) or "none"
            raise self.wrong(key, f"has to have one of {', '.join(KINDS)}; it has {found}", "block")
        kind = kinds[0]
        return Rule(
            kind=kind,
            pattern=self.pattern(rule[kind], f"{key}.{kind}"),
            severity=self._severity(rule.get("severity", "error"), f"{key}.severity"),
            suggestion=self._text(rule.get("suggestion", ""), f"{key}.suggestion"),
        )

    def _severity(self, value: object, key: str) -> Severity:
        try:
            return Severity(str(value))
        except ValueError:
            raise self.wrong(
                key, f"{value!r} is no severity; {advice(str(value), Severity)}", value
            ) from None

    def _text(self, value: object, key: str) -> str:
        if not isinstance(value, str):
            raise self.wrong(key, "is to be text")
        return value

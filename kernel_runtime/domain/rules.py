"""Rules of a policy, grants that a person gave, and what an app asks: scopes with conditions."""

from __future__ import annotations

import enum

import msgspec

from kernel_runtime.domain.conditions import NONE, Conditions
from kernel_runtime.domain.scopes import Scope


class Effect(enum.StrEnum):
    """What becomes of a request; the later in this list, the stricter."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class Layer(enum.StrEnum):
    """Where a rule comes from: the machine's file, the person's, the project's, or the command line."""

    SYSTEM = "system"
    USER = "user"
    PROJECT = "project"
    GIVEN = "given"


class Span(enum.StrEnum):
    """How long an answer of the person holds."""

    ONCE = "once"
    SESSION = "session"
    ALWAYS = "always"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of a policy. ``place``: file and line."""

    effect: Effect
    scope: Scope
    conditions: Conditions = NONE
    layer: Layer = Layer.GIVEN
    place: str = ""
    reason: str = ""

    @property
    def identity(self) -> str:
        """The same for the same rule, wherever it stands in its file."""
        return f"{self.layer} {self.effect} {self.scope} {self.conditions.text}"

    def __str__(self) -> str:
        conditions = f" ({self.conditions.words})" if self.conditions != NONE else ""
        return f"{self.effect} {self.scope}{conditions}, {self.place or self.layer}"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A capability given by a person: an answer to a prompt, or ``--allow``. ``app`` and ``version``: holder and
    stamp of the manifest that it is for. Empty ``app``, ``version``, ``principal``, ``session``: for any."""

    scope: Scope
    conditions: Conditions = NONE
    app: str = ""
    version: str = ""
    principal: str = ""
    session: str = ""
    span: Span = Span.SESSION
    place: str = "prompt"

    @property
    def identity(self) -> str:
        """The same for the same grant."""
        holder = f"{self.app} {self.version} {self.principal} {self.session}"
        return f"grant {self.scope} {self.conditions.text} {holder} {self.span} {self.place}"

    def __str__(self) -> str:
        return f"grant {self.scope} ({self.span}), {self.place}"


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One scope that a manifest asks for. ``place``: the key of its permission; ``reason``: what for."""

    scope: Scope
    conditions: Conditions = NONE
    place: str = ""
    reason: str = ""

    @property
    def identity(self) -> str:
        return f"manifest {self.scope} {self.conditions.text}"

    def __str__(self) -> str:
        return f"{self.place} of the manifest asks {self.scope}"

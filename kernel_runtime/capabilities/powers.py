"""What decides for one session: its manifest, the policy, scopes that were given, and the person."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.level import Level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernel_runtime.broker.gate import Gate
    from kernel_runtime.domain.disclosed import Disclosed
    from kernel_runtime.domain.level import Rung
    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.domain.policy import Given, Policy
    from kernel_runtime.ports import Person
    from kernel_runtime.state import State


@dataclass(frozen=True, kw_only=True)
class Powers:
    """What decides for one session. ``manifest``: a file, or one that was read; without one everything may be
    asked for. ``policy``: files beside those that hold in ``directory``. ``allow`` and ``deny``: scopes, as on
    a command line. ``person``: who is asked; without one asking is denying. ``rung``: the weakest that was
    accepted, for the guests of apps that this one calls, too. ``began``: when the session did. ``known``: it is
    told which app it is; what another grants for ever is only for this session, for the next one may be somebody
    else's."""

    name: str = ""
    known: bool = True
    directory: str = ""
    level: Level = Level.MODERATE
    manifest: Manifest | str | None = None
    policy: Sequence[str] = ()
    allow: Sequence[str] = ()
    deny: Sequence[str] = ()
    person: Person | None = None
    tenant: str = ""
    rung: Rung | None = None
    began: float = field(default_factory=time.time)

    def check(self) -> Powers:
        """Itself; ``Invalid`` for scopes that are none, a manifest or a policy file that cannot be read as one, or a
        person who answers nothing."""
        if self.person is not None and not callable(getattr(self.person, "answer", None)):
            raise Invalid(f"person: {self.person!r} has no method answer(question)")
        if self.allow or self.deny:
            self._given()
        if isinstance(self.manifest, str):
            self.read_manifest()
        if self.policy:
            from kernel_runtime.broker.policies import read_given

            for file in self.policy:
                read_given(Path(file))
        return self

    def read_manifest(self) -> Manifest:
        from kernel_runtime.apps.manifests import read_manifest
        from kernel_runtime.domain.manifest import undeclared

        if self.manifest is None:
            return undeclared(self.name or "notebook")
        return read_manifest(Path(self.manifest)) if isinstance(self.manifest, str) else self.manifest

    def placed_manifest(self) -> Manifest:
        """The manifest of the app in this place: what is remembered, kept and counted is for that one. Another may
        call itself the same, and copy every word of its manifest."""
        read = self.read_manifest()
        named = f"{os.path.realpath(self.directory)}#{self.name}"
        place = named if self.manifest is None else os.path.realpath(read.place)
        once = () if self.known else (secrets.token_hex(16),)
        return replace(read, stamp=_digest(read.stamp, place, *once), holder=_digest(place))

    def gate(self, state: State, disclosed: Disclosed) -> Gate:
        """What decides; everything that holds is read now."""
        manifest = self.placed_manifest()
        gate = state.gate(
            manifest,
            self.held_policy(manifest.level),
            grants=self._given().grants,
            headless=self.person is None,
            redact=disclosed.text,
        )
        gate.recall(self.began)
        return gate

    def held_policy(self, level: Level | None) -> Policy:
        """The rules that hold now, for an app of this level."""
        from kernel_runtime.broker.policies import load_policy

        return load_policy(
            Path(self.directory or os.getcwd()),
            os.environ,
            files=[Path(file) for file in self.policy],
            given=self._given().source,
            confirm=Level.STRICT in (self.level, level),
        )

    def _given(self) -> Given:
        from kernel_runtime.domain.manifest import Anchors
        from kernel_runtime.domain.policy import given

        return given(self.allow, self.deny, Anchors(os.getcwd(), str(Path.home())))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]

"""Secrets: sealed one by one, opened for a moment, never in a log.

Each version has a key of its own (AES-256-GCM), which the master key wraps: a new master key means
wrapping again, not sealing again. Name and version are authenticated: a row put in another's place
does not open.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.broker.datakeys import rewrapped
from kernel_runtime.broker.master import key_id
from kernel_runtime.broker.sealing import about, new_key, seal, unseal
from kernel_runtime.domain.audit import Entry
from kernel_runtime.domain.errors import Conflict, Invalid, NotFound
from kernel_runtime.domain.redaction import MIN_SECRET, Redactor
from kernel_runtime.ports import Envelope

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.broker.master import MasterKeys
    from kernel_runtime.ports import Ledger, Turn

TTL = 60.0
MAX_SECRET = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What may be told about a secret."""

    name: str
    version: int
    created: float
    older: tuple[int, ...] = ()


class Vault:
    """Secrets of one ledger, opened with the master keys. ``now`` is the host's clock, ``ticks`` one that nobody sets."""

    def __init__(
        self,
        ledger: Ledger,
        keys: MasterKeys,
        *,
        principal: str = "",
        ttl: float = TTL,
        now: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._keys = keys
        self._principal = principal
        self._ttl = ttl
        self._now = now
        self._ticks = ticks
        self._opened: dict[tuple[str, int], tuple[float, bytearray]] = {}
        self._seen = -1

    def set(self, name: str, value: bytes) -> int:
        """Keep the first version of a secret; ``Conflict`` when there is one."""
        _check(name, value)
        with self._ledger.turn() as turn:
            if turn.envelopes(name):
                raise Conflict(
                    f"there is a secret {name!r} already; give it a new value with: secrets rotate {name}"
                )
            turn.keep(self._seal(self._keys.ensure(), name, 1, value))
            self._write_down(turn, name, "set", "version 1")
        self.forget()
        return 1

    def rotate(self, name: str, value: bytes, grace: float = 0.0) -> int:
        """A new version; those before it end in ``grace`` seconds, at once when that is 0."""
        _check(name, value)
        with self._ledger.turn() as turn:
            there = turn.envelopes(name)
            if not there:
                raise NotFound(f"there is no secret {name!r}; set it first")
            version = there[-1].version + 1
            end = self._now() + grace
            for old in there:
                if grace <= 0 or self._ended(old):
                    turn.drop(name, old.version)
                elif old.until is None or old.until > end:
                    turn.keep(msgspec.structs.replace(old, until=end))
            turn.keep(self._seal(self._keys.ensure(), name, version, value))
            self._write_down(turn, name, "rotated", f"version {version}")
        self.forget()
        return version

    def remove(self, name: str) -> None:
        """Destroy a secret with all its versions."""
        with self._ledger.turn() as turn:
            there = turn.envelopes(name)
            if not there:
                raise NotFound(f"there is no secret {name!r}")
            for envelope in there:
                turn.drop(name, envelope.version)
            self._write_down(turn, name, "removed", f"{len(there)} version{'s' * (len(there) != 1)}")
        self.forget()

    def rotate_master(self) -> int:
        """Wrap every secret's key, and those of apps' data, with a new master key; how many secrets. A crash in the middle
        leaves both keys and whole secrets; to begin again is right then."""
        with self._ledger.turn() as turn:  # of several processes one at a time makes keys
            new = self._keys.add() if self._keys.writable else self._keys.current()
            envelopes = turn.envelopes()
            for envelope in envelopes:
                turn.keep(self._rewrapped(envelope, new))
            for key in turn.data_keys():
                turn.keep_data_key(rewrapped(key, self._keys, new))
            self._write_down(turn, "*", "wrapped anew", f"master key {key_id(new)}")
        self._keys.keep_only_current()
        self.forget()
        return len(envelopes)

    def get(self, name: str, version: int | None = None) -> bytes:
        """The value, of the current version unless another is named; ``NotFound`` when it is gone.

        An opened value is kept for ``ttl`` seconds, or until anything in the store was changed.
        """
        if self._seen != (seen := self._ledger.changes()):
            self.forget()
            self._seen = seen
        key = (name, version or 0)
        opened = self._opened.get(key)
        if opened is not None and opened[0] > self._ticks():
            return bytes(opened[1])
        with self._ledger.turn() as turn:
            envelope = self._chosen(turn, name, version)
        value = self._open(envelope)
        ends = self._ttl if envelope.until is None else min(self._ttl, envelope.until - self._now())
        self._opened[key] = (self._ticks() + ends, bytearray(value))
        return value

    def listing(self) -> list[Known]:
        """Names and versions, never values."""
        with self._ledger.turn() as turn:
            there = [envelope for envelope in turn.envelopes() if not self._ended(envelope)]
        latest = {envelope.name: envelope for envelope in there}
        return [
            Known(
                name=name,
                version=current.version,
                created=current.created,
                older=tuple(e.version for e in there if e.name == name and e is not current),
            )
            for name, current in latest.items()
        ]

    def redactor(self) -> Redactor:
        """What takes every value out of texts, older versions too."""
        with self._ledger.turn() as turn:
            there = turn.envelopes()
        return Redactor([(envelope.name, self._open(envelope)) for envelope in there])

    def forget(self) -> None:
        """Overwrite and drop what was opened."""
        for _, value in self._opened.values():
            value[:] = bytes(len(value))
        self._opened.clear()

    def _chosen(self, turn: Turn, name: str, version: int | None) -> Envelope:
        there = [envelope for envelope in turn.envelopes(name) if not self._ended(envelope)]
        if version is not None:
            there = [envelope for envelope in there if envelope.version == version]
        if not there:
            wanted = f"version {version} of the secret" if version else "secret"
            raise NotFound(f"there is no {wanted} {name!r}")
        return there[-1]

    def _ended(self, envelope: Envelope) -> bool:
        return envelope.until is not None and envelope.until <= self._now()

    def _seal(self, master: bytes, name: str, version: int, value: bytes) -> Envelope:
        own = new_key()
        return Envelope(
            name=name,
            version=version,
            key=key_id(master),
            wrapped=seal(master, own, about("key", name, version)),
            sealed=seal(own, value, about("value", name, version)),
            created=self._now(),
        )

    def _open(self, envelope: Envelope) -> bytes:
        own = self._unwrapped(envelope)
        return _decrypt(own, envelope.sealed, about("value", envelope.name, envelope.version), envelope.name)

    def _unwrapped(self, envelope: Envelope) -> bytes:
        master = self._keys.named(envelope.key)
        return _decrypt(
            master, envelope.wrapped, about("key", envelope.name, envelope.version), envelope.name
        )

    def _rewrapped(self, envelope: Envelope, master: bytes) -> Envelope:
        wrapped = seal(master, self._unwrapped(envelope), about("key", envelope.name, envelope.version))
        return msgspec.structs.replace(envelope, key=key_id(master), wrapped=wrapped)

    def _write_down(self, turn: Turn, name: str, what: str, detail: str) -> None:
        entry = Entry(
            event="changed",
            principal=self._principal,
            capability="secret",
            resource=name,
            rule=what,
            reason=detail,
        )
        turn.append(entry, self._now())


def _check(name: str, value: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} is no name of a secret: letters, digits, . _ and -")
    if len(value) < MIN_SECRET:
        raise Invalid(
            f"a secret of fewer than {MIN_SECRET} bytes could not be told from ordinary text in outputs"
        )
    if len(value) > MAX_SECRET:
        raise Invalid(f"a secret of more than {MAX_SECRET >> 10} KB is not kept")


def _decrypt(key: bytes, sealed: bytes, bound: bytes, name: str) -> bytes:
    value = unseal(key, sealed, bound)
    if value is None:
        raise Invalid(f"the secret {name!r} does not open: its row or the master key was changed")
    return value

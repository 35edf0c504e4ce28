"""Keys of apps' data: one for each app that asks for encryption, wrapped by the master key, in the ledger.

An app that has one keeps it: what is sealed stays so, whatever a later manifest says.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.broker.master import key_id
from kernel_runtime.broker.sealing import about, new_key, seal, unseal
from kernel_runtime.domain.audit import Entry
from kernel_runtime.domain.errors import Conflict, Damaged, NotFound
from kernel_runtime.ports import DataKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.broker.master import MasterKeys
    from kernel_runtime.ports import Ledger, Turn


class DataKeys:
    """Those of one ledger, opened with the master keys."""

    def __init__(
        self, ledger: Ledger, keys: MasterKeys, *, principal: str = "", now: Callable[[], float] = time.time
    ) -> None:
        self._ledger = ledger
        self._keys = keys
        self._principal = principal
        self._now = now

    def key(self, space: str, seal_rest: Callable[[bytes], None], *, make: bool) -> bytes | None:
        """The key of an app's data, made where there is none if ``make`` says so. ``seal_rest`` seals with it what
        lies in the open: until that was done to its end, it is done again.

        ``Conflict`` when the master key is not there, ``Damaged`` when the key was changed.
        """
        with self._ledger.turn() as turn:
            there = turn.data_keys(space)
            if not there and not make:
                return None
            held = there[0] if there else self._made(turn, space)
            key = unwrapped(held, self._keys)
        if not held.whole:
            seal_rest(key)
            self._finish(space)
        return key

    def _made(self, turn: Turn, space: str) -> DataKey:
        try:
            master = self._keys.current()
        except NotFound:
            raise Conflict(
                "this app's data is to be encrypted (security.data_encryption), and there is no master key here; "
                "make one with: kernel-runtime secrets rotate --master-key"
            ) from None
        held = _wrapped(DataKey(space=space, key="", wrapped=b""), new_key(), master)
        turn.keep_data_key(held)
        self._write_down(turn, space, "key made")
        return held

    def _finish(self, space: str) -> None:
        """From now on nothing in the open is taken for the app's. Another process may have come first."""
        with self._ledger.turn() as turn:
            held = turn.data_keys(space)[0]
            if not held.whole:
                key = unwrapped(held, self._keys)
                whole = msgspec.structs.replace(held, whole=True)
                turn.keep_data_key(_wrapped(whole, key, self._keys.named(held.key)))
                self._write_down(turn, space, "sealed")

    def _write_down(self, turn: Turn, space: str, what: str) -> None:
        entry = Entry(
            event="changed", principal=self._principal, capability="storage", resource=space, rule=what
        )
        turn.append(entry, self._now())


def unwrapped(held: DataKey, keys: MasterKeys) -> bytes:
    """The key itself."""
    try:
        master = keys.named(held.key)
    except NotFound:
        raise Conflict(f"this app's data is sealed, and the master key {held.key} is not here") from None
    key = unseal(master, held.wrapped, _about(held))
    if key is None:
        raise Damaged("the key of this app's data does not open: its row or the master key was changed")
    return key


def rewrapped(held: DataKey, keys: MasterKeys, master: bytes) -> DataKey:
    """The same key, wrapped by another master key."""
    return _wrapped(held, unwrapped(held, keys), master)


def _wrapped(held: DataKey, key: bytes, master: bytes) -> DataKey:
    return msgspec.structs.replace(held, key=key_id(master), wrapped=seal(master, key, _about(held)))


def _about(held: DataKey) -> bytes:
    return about("data key", held.space, held.whole)

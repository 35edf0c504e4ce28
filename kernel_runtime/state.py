"""Opens the state of the platform: ledger, audit log, secrets, and gates that decide with them."""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import TYPE_CHECKING, Any

from kernel_runtime.broker.gate import Gate
from kernel_runtime.store.audit import AuditLog
from kernel_runtime.store.database import NAME, Database, directory
from kernel_runtime.store.ledger import SqlLedger
from kernel_runtime.store.logs import SqlLogs
from kernel_runtime.store.storage import SqlStorage

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from kernel_runtime.broker.master import MasterKeys
    from kernel_runtime.broker.vault import Vault
    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.domain.policy import Policy
    from kernel_runtime.ports import LogStore, Storage


class State:
    """The state in a directory (``KERNEL_RUNTIME_STATE``, or the person's own).

    ``patience``: seconds to wait for another process that writes.
    """

    def __init__(self, place: Path | None = None, *, patience: float = 5.0) -> None:
        self.directory = place or directory(os.environ)
        self.principal = principal()
        self._patience = patience
        self._database = Database(self.directory / NAME, patience)
        self._reader: Database | None = None
        self._logs: Database | None = None
        self.ledger = SqlLedger(self._database)

    @property
    def audit(self) -> AuditLog:
        """The audit log, on a connection of its own: who reads it keeps no gate waiting."""
        if self._reader is None:
            self._reader = Database(self.directory / NAME, self._patience)
        return AuditLog(self._reader)

    @property
    def logs(self) -> SqlLogs:
        """Log records of guests, on a connection of their own."""
        if self._logs is None:
            self._logs = Database(self.directory / NAME, self._patience)
        return SqlLogs(self._logs)

    def storage(self) -> SqlStorage:
        """What apps keep; who asks closes it."""
        return SqlStorage(self.directory, self._patience)

    def drawer(self, space: str, *, sealed: bool) -> Storage:
        """What the app of ``space`` keeps, sealed if it asks for that or ever did; who asks closes it."""
        from kernel_runtime.broker.sealed import SealedStorage

        key = self.data_key(space, make=sealed)
        return self.storage() if key is None else SealedStorage(self.storage(), key)

    def log_store(self, space: str, *, sealed: bool) -> LogStore:
        """What the app of ``space`` says, sealed if it asks for that or ever did."""
        from kernel_runtime.broker.sealed import SealedLogs

        key = self.data_key(space, make=sealed)
        return self.logs if key is None else SealedLogs(self.logs, key)

    def data_key(self, space: str, *, make: bool) -> bytes | None:
        """What seals an app's data, on connections of its own: nobody's loop waits. See ``DataKeys.key``."""
        from kernel_runtime.broker.datakeys import DataKeys
        from kernel_runtime.broker.sealed import seal_rest

        def seal_what_is_there(key: bytes) -> None:
            with contextlib.closing(self.storage()) as store:
                seal_rest(store, space, key)

        with contextlib.closing(Database(self.directory / NAME, self._patience)) as ledger:
            keys = DataKeys(SqlLedger(ledger), self._master_keys(), principal=self.principal)
            return keys.key(space, seal_what_is_there, make=make)

    def wait_at_most(self, seconds: float) -> None:
        """For a state that others write, before gates deny: who holds a loop waits little, and asks again."""
        self._database.wait_at_most(seconds)

    def vault(self, **options: Any) -> Vault:
        """The secrets; ``options``: those of ``Vault`` (``ttl``)."""
        from kernel_runtime.broker.vault import Vault

        return Vault(self.ledger, self._master_keys(), principal=self.principal, **options)

    def _master_keys(self) -> MasterKeys:
        from kernel_runtime.broker.master import MasterKeys, sources

        return MasterKeys(sources(os.environ, self.directory))

    def gate(self, manifest: Manifest, policy: Policy, **options: Any) -> Gate:
        """What decides the requests of one app; ``options``: those of ``Gate`` (``grants``, ``headless``, ``redact``)."""
        return Gate(manifest, policy, self.ledger, **options)

    def close(self) -> None:
        """Idempotent."""
        self._database.close()
        for opened in (self._reader, self._logs):
            if opened is not None:
                opened.close()

    def __enter__(self) -> State:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def principal() -> str:
    """Who runs this process, by name where it has one."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"

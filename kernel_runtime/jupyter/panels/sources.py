"""What the panels of one kernel work on: its guests, its rights, its logs. The front fills it in.

A front with a broker hands over the gate that decides the guest's requests (``use_rights``); until
then the rights are those of a gate of the notebook's own, over the same log and the same policies.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.jupyter.panels.logbook import LogBook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kernel_runtime.domain.clock import Clock
    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.domain.policy import Policy
    from kernel_runtime.jupyter.guest import Guest
    from kernel_runtime.jupyter.panels.resource_view import Watched
    from kernel_runtime.jupyter.panels.rights import Gate, Rights, Trail
    from kernel_runtime.state import State


class Sources:
    """See the module."""

    def __init__(self, guest: Guest) -> None:
        self.logs = LogBook()
        self._guest = guest
        self._state: State | None = None
        self._rights: Rights | None = None
        self._opening = threading.Lock()

    def guests(self) -> Mapping[str, Watched]:
        """The kernel's guest, by the name of its notebook."""
        session = self._guest.session
        return {} if session is None else {notebook_name(): cast("Watched", session)}

    def use_rights(self, rights: Rights) -> None:
        """From now on the panels show these."""
        self._rights = rights

    def rights(self) -> Rights:
        """Opened when they are first asked for; may block on the disk."""
        with self._opening:  # two panels may ask at once, in two threads
            if self._rights is None:
                self._rights = self._open_rights()
            return self._rights

    def close(self) -> None:
        """Idempotent."""
        if self._state is not None:
            self._state.close()

    def _open_rights(self) -> Rights:
        from kernel_runtime.broker.gate import host_clock
        from kernel_runtime.state import State

        state = self._state = State()
        gate = state.gate(_manifest(), held_policy())
        return rights_of(
            gate, lambda: state.audit, host_clock, principal=state.principal, session=str(os.getpid())
        )


def rights_of(
    gate: Gate,
    trail: Callable[[], Trail],
    clock: Callable[[float], Clock],
    *,
    principal: str,
    session: str,
) -> Rights:
    """The rights that a gate decides on, with this person's policy files to write to."""
    from kernel_runtime.broker.approving import approve
    from kernel_runtime.broker.policies import user_file
    from kernel_runtime.domain.rules import Layer
    from kernel_runtime.jupyter.panels.rights import Rights

    files = {"your policy": user_file(os.environ)}

    def approved(file: str, scopes: list[str]) -> Policy:
        approve(files[file], scopes, Layer.USER)
        return held_policy()

    return Rights(
        gate,
        trail,
        clock,
        principal=principal,
        session=session,
        files=files,
        approve=approved,
    )


def held_policy() -> Policy:
    """The rules that hold where this kernel runs."""
    from kernel_runtime.broker.policies import load_policy

    return load_policy(Path.cwd(), os.environ)


def notebook_name() -> str:
    """What a person calls it."""
    return os.path.basename(os.environ.get("JPY_SESSION_NAME", "")) or "this kernel"


def _manifest() -> Manifest:
    """The notebook's own; one that cannot be read declares nothing, and all of it is asked."""
    from kernel_runtime.apps.manifests import read_manifest
    from kernel_runtime.domain.manifest import undeclared

    path = Path(os.environ.get("JPY_SESSION_NAME", ""))
    try:
        if path.suffix == ".ipynb":
            return read_manifest(path)
    except KernelRuntimeError:
        pass
    return undeclared(path.stem or "kernel")

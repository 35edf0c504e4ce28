"""The magics that open panels, as the front recognises them, and what the panels work on."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.jupyter.panels import differences, snapshots

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.jupyter.guest import Guest
    from kernel_runtime.jupyter.panels.rights import Rights
    from kernel_runtime.jupyter.panels.sources import Sources
    from kernel_runtime.jupyter.panels.stage import Panel, Stage

    Bundle = dict[str, Any]

RESOURCES, PERMISSIONS, SUGGEST, LOGS = "%resources", "%permissions", "%permissions suggest", "%logs"


class Panels:
    """Opens the panel that a cell asks for, also while another cell runs."""

    def __init__(self, stage: Stage, guest: Guest, sources: Sources) -> None:
        self._stage = stage
        self._guest = guest
        self._sources = sources
        self._open: dict[str, Callable[[bytes], Awaitable[Bundle]]] = {
            snapshots.NAME: self._snapshots,
            RESOURCES: self._resources,
            PERMISSIONS: self._permissions,
            SUGGEST: self._suggested,
            LOGS: self._logs,
        }

    def recognise(self, code: str) -> str | None:
        """The panel's magic, when the cell is nothing but that."""
        name = " ".join(code.split())
        return name if name in self._open else None

    async def open(self, name: str, parent: bytes) -> Bundle:
        """What the cell of the request ``parent`` displays."""
        return await self._open[name](parent)

    async def _snapshots(self, parent: bytes) -> Bundle:
        session = self._guest.session or await self._guest.ready()
        return await snapshots.open_panel(
            self._stage, session.snapshots, parent, differences.by(session), session.written_since
        )

    async def _resources(self, parent: bytes) -> Bundle:
        if self._guest.session is None:
            await self._guest.ready()

        def make() -> Panel:
            from kernel_runtime.jupyter.panels.resource_view import ResourceView  # needs ipywidgets

            return ResourceView(self._sources.guests)

        return await self._stage.show(RESOURCES, make, parent)

    async def _permissions(self, parent: bytes) -> Bundle:
        rights = await self._sources.rights()

        def make() -> Panel:
            from kernel_runtime.jupyter.panels.permission_view import PermissionView

            return PermissionView(lambda: {"": rights})

        return await self._stage.show(PERMISSIONS, make, parent)

    async def _suggested(self, parent: bytes) -> Bundle:
        """The same panel, at the page with the proposed policy."""
        await self._permissions(parent)
        panel: Any = self._stage.panel(PERMISSIONS)
        panel.turn_to_suggestion()
        return await self._permissions(parent)

    async def _logs(self, parent: bytes) -> Bundle:
        rights: Rights | None = None
        with contextlib.suppress(KernelRuntimeError):  # without a state on disk there are the lines alone
            rights = await self._sources.rights()

        def make() -> Panel:
            from kernel_runtime.jupyter.panels.log_view import LogView, Voice, called_voices

            own, sources = Voice(rights, self._sources.records), self._sources
            return LogView(sources.logs, lambda: {"": own, **called_voices(sources.said())}, Path.cwd())

        return await self._stage.show(LOGS, make, parent)

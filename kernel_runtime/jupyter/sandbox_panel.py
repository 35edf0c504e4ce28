"""``%sandbox resources``, ``permissions``, ``logs`` and ``snapshots``: the panels over the guests of ``%%sandbox``, in any Jupyter kernel.

They live in the thread of the guests' own loop, so that they go on while a cell holds the kernel. What is
pressed meanwhile arrives when that cell has ended: then the kernel hands it over.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from kernel_runtime.domain.errors import Conflict, KernelRuntimeError, NotFound
from kernel_runtime.jupyter.cleaning import WIDGET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kernel_runtime.capabilities import SessionBroker
    from kernel_runtime.domain.log import LogRecord
    from kernel_runtime.jupyter.guests import Guests
    from kernel_runtime.jupyter.panels.log_view import LogView, Voice
    from kernel_runtime.jupyter.panels.permission_view import PermissionView
    from kernel_runtime.jupyter.panels.resource_view import ResourceView, Watched
    from kernel_runtime.jupyter.panels.rights import Rights
    from kernel_runtime.jupyter.panels.snapshot_view import SnapshotView
    from kernel_runtime.jupyter.panels.stage import Panel


@runtime_checkable
class _OfOneGuest(Protocol):
    def turn_to(self, guest: str) -> None: ...


class SandboxPanels:
    """The panels of one notebook: each is made when it is first opened, and shown again after that."""

    def __init__(self, guests: Guests) -> None:
        self._guests = guests
        self._rights: dict[str, tuple[SessionBroker, Rights]] = {}
        self._open: dict[str, Panel] = {}
        guests.on_end = self._guest_ended
        self._makers: dict[str, Callable[[], Panel]] = {
            "resources": self._resources,
            "permissions": self._permissions,
            "logs": self._logs,
        }

    def show(self, panel: str, guest: str = "") -> dict[str, Any]:
        """What the cell displays; ``guest``: who is looked at (empty: whoever was last)."""
        from kernel_runtime.client import in_the_loop

        return in_the_loop(self._shown(panel, guest, self._makers[panel]))

    def snapshots(self, guest: str) -> dict[str, Any]:
        """The panel of one guest's snapshots, as a cell displays it; it goes when the guest does."""
        from kernel_runtime.client import in_the_loop

        return in_the_loop(self._of_snapshots(guest))

    def close(self) -> None:
        """No panel looks any more."""
        if self._open:
            from kernel_runtime.client import in_the_loop

            in_the_loop(self._closed())

    def _guest_ended(self, name: str) -> None:
        """What shows its snapshots disappears from the page."""
        view = self._open.pop(f"snapshots {name}", None)
        if view is not None:
            from kernel_runtime.client import in_the_loop

            in_the_loop(_taken_away(view))

    async def _shown(self, name: str, guest: str, make: Callable[[], Panel]) -> dict[str, Any]:
        view = await self._opened(name, guest, make)
        plain, html = view.still()
        shown = {"version_major": 2, "version_minor": 0, "model_id": view.root.model_id}
        return {"text/plain": plain, "text/html": html, WIDGET: shown}

    async def _opened(self, name: str, guest: str, make: Callable[[], Panel]) -> Any:
        view = self._open.get(name)
        if view is None or view.root.comm is None:  # its page has let go of it
            if view is not None:
                view.close()
            view = self._open[name] = make()
        if guest and isinstance(view, _OfOneGuest):
            self._guests.get(guest)  # or say which there are
            view.turn_to(guest)
        await view.look()
        return view

    async def _closed(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def _resources(self) -> ResourceView:
        from kernel_runtime.jupyter.panels.resource_view import ResourceView

        return ResourceView(self.watched)

    def _permissions(self) -> PermissionView:
        from kernel_runtime.jupyter.panels.permission_view import PermissionView

        return PermissionView(self.rights)

    def _logs(self) -> LogView:
        from kernel_runtime.jupyter.panels.log_view import LogView

        return LogView(self._guests.logs, self.voices, Path.cwd())

    async def _of_snapshots(self, guest: str) -> dict[str, Any]:
        session = self._guests.get(guest).watched

        def make() -> SnapshotView:
            from kernel_runtime.jupyter.panels import differences
            from kernel_runtime.jupyter.panels.snapshot_view import SnapshotView

            diff = differences.by(session)
            return SnapshotView(session.snapshots, diff, guest, session.written_since)

        await session.snapshots.settled()
        return await self._shown(f"snapshots {guest}", "", make)

    # -- what they work on, in the loop ----------------------------------------------------------

    def watched(self) -> dict[str, Watched]:
        """The guests that live, by name."""
        found: dict[str, Watched] = {}
        for name in self._guests.names():
            try:
                found[name] = self._guests.get(name).watched
            except (Conflict, NotFound):  # it was ended just now
                continue
        return found

    def rights(self) -> dict[str, Rights]:
        """What each of them may do; one whose policy or state cannot be read is left out."""
        found, guests = {}, self.watched()
        for gone in self._rights.keys() - guests.keys():
            del self._rights[gone]
        for name, session in guests.items():
            try:
                found[name] = self._rights_of(name, cast("Any", session).broker())
            except KernelRuntimeError:
                continue
        return found

    def _rights_of(self, name: str, broker: SessionBroker) -> Rights:
        from kernel_runtime.jupyter.panels.sources import rights_with

        kept = self._rights.get(name)
        if kept is None or kept[0] is not broker:
            kept = self._rights[name] = broker, rights_with(broker)
        return kept[1]

    def voices(self) -> dict[str, Voice]:
        """What is to be heard of each of them, beside its output."""
        from kernel_runtime.jupyter.panels.log_view import Voice, called_voices

        voices = {
            name: Voice(rights, _records_of(self._rights[name][0])) for name, rights in self.rights().items()
        }
        return voices | called_voices(self._said())

    def _said(self) -> Sequence[LogRecord]:
        """What called apps have logged and printed, the newest last; guests of one directory share them."""
        logs = {
            id(logs): logs for logs in (broker.context.commons.said for broker, _ in self._rights.values())
        }
        return sorted((r for one in logs.values() for r in one.records), key=lambda record: record.at)


async def _taken_away(view: Panel) -> None:
    view.close()
    for widget in list(_parts(view.root)):
        widget.close()


def _parts(widget: Any) -> Iterator[Any]:
    """It, and all that it is made of."""
    yield widget
    looks = (getattr(widget, name, None) for name in ("layout", "style"))
    for part in (*filter(None, looks), *getattr(widget, "children", ())):
        yield from _parts(part)


def _records_of(broker: SessionBroker) -> Callable[[], Iterable[LogRecord]]:
    return lambda: list(reversed(broker.logs.records))

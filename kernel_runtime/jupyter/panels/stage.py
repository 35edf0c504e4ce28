"""The stage: ipywidgets in the front's own process, which has no IPython shell.

Its models' messages are published and signed by the front; their comms belong to the front
(``comms.py``), so that no guest can open, close, imitate or write to one. Clients' messages to them
are handled in the front's loop, at once, whatever the guest does.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from kernel_runtime.jupyter import contents
from kernel_runtime.jupyter.cleaning import WIDGET
from kernel_runtime.jupyter.outgoing import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kernel_runtime.jupyter.comms import Comms
    from kernel_runtime.jupyter.messages import Message
    from kernel_runtime.jupyter.publisher import Publisher
    from kernel_runtime.jupyter.requests import Comm

    Bundle = dict[str, Any]
    Widget = Any


class Panel(Protocol):
    """What a stage shows: a root widget, what stands for it where no widgets live (plain, HTML),
    and an end. ``look``: take in what is so by now, before it is shown."""

    root: Widget

    async def look(self) -> None: ...
    def still(self) -> tuple[str, str]: ...
    def close(self) -> None: ...


#: Whose request is being answered: the client's message that a widget's words are published for.
_parent: ContextVar[bytes] = ContextVar("parent", default=b"{}")


class Stage:
    """The widgets of all panels. Nothing is imported before the first panel opens."""

    def __init__(self, publisher: Publisher, comms: Comms) -> None:
        self._panels: dict[str, tuple[Panel, list[str]]] = {}
        self._publisher = publisher
        self._comms = comms
        self._manager: Any = None
        self._closed = False
        self._opening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Import ipywidgets, beside the loop: 0.1 to 0.3 s in which cells go on."""
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        await asyncio.to_thread(importlib.import_module, "ipywidgets")
        from kernel_runtime.jupyter.panels.comm import connect

        self._manager = connect(self.say)

    async def show(self, name: str, make: Callable[[], Panel], parent: bytes) -> Bundle:
        """What the cell of the request ``parent`` displays: the panel ``name``, made if there is none.

        Where it stands already, its state is said again: a run without a browser saves what was said
        in the cell.
        """
        await self.open()
        with self.answering(parent):
            new = name not in self._panels
            if new:
                before = set(self._manager.comms)
                panel = make()
                self._panels[name] = panel, [each for each in self._manager.comms if each not in before]
            panel, parts = self._panels[name]
            await panel.look()
            plain, html = panel.still()
            if not new:
                for widget in self._widgets(parts):
                    widget.send_state()
        view = {"version_major": 2, "version_minor": 0, "model_id": panel.root.model_id}
        return {"text/plain": plain, "text/html": html, WIDGET: view}

    def panel(self, name: str) -> Panel | None:
        """The panel of that name, if it stands."""
        found = self._panels.get(name)
        return found[0] if found else None

    def drop(self, name: str) -> None:
        """Let go of a panel: it disappears from the page."""
        if name in self._panels:
            self._end(name)

    @contextlib.contextmanager
    def answering(self, parent: bytes) -> Iterator[None]:
        """What widgets say meanwhile, and tasks begun meanwhile, belongs to the request ``parent``."""
        token = _parent.set(parent)
        try:
            yield
        finally:
            _parent.reset(token)

    def close(self) -> None:
        """The front ends: nothing is said any more."""
        self._closed = True
        for panel, _ in self._panels.values():
            panel.close()

    # -- to the clients --------------------------------------------------------------------------

    def say(
        self, kind: str, content: dict[str, Any], metadata: dict[str, Any] | None, buffers: list[bytes]
    ) -> None:
        """Publish what a widget says."""
        if self._closed:
            return
        comm_id = content["comm_id"]
        if kind == "comm_open":
            self._comms.own(comm_id, content["target_name"])
        elif kind == "comm_close":
            self._comms.disown(comm_id)
        extra = contents.encode(metadata) if metadata else b"{}"
        self._publisher.publish(Outgoing(kind, contents.encode(content), _parent.get(), extra, buffers))

    # -- from the clients ------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether any model lives here."""
        return bool(self._manager is not None and self._manager.comms)

    def __contains__(self, comm_id: str) -> bool:
        return self._manager is not None and comm_id in self._manager.comms

    def receive(self, message: Message, comm: Comm) -> None:
        """A client's message to one of the widgets."""
        received = {"content": {"comm_id": comm.comm_id, "data": comm.data}, "buffers": message.buffers}
        with self.answering(message.raw):
            try:
                if message.kind == "comm_close":
                    self._closed_by_client(comm.comm_id)
                elif message.kind == "comm_msg":
                    self._manager.comms[comm.comm_id].handle_msg(received)
            except Exception:  # noqa: BLE001 - a malformed message of a client must not end the front
                traceback.print_exc(file=sys.stderr)

    def _closed_by_client(self, comm_id: str) -> None:
        """A panel without one of its parts is none: it ends, and the next call makes a new one."""
        for name, (_, parts) in tuple(self._panels.items()):
            if comm_id in parts:
                self._end(name)

    def _end(self, name: str) -> None:
        panel, parts = self._panels.pop(name)
        panel.close()
        for widget in self._widgets(parts):
            widget.close()

    # -- clients that come later -----------------------------------------------------------------

    def add_states(self, data: dict[str, Any]) -> dict[str, Any]:
        """``update_states`` with the models of the stage, which hold no buffers."""
        if not self.is_open:
            return data
        own = {
            widget.model_id: {
                "model_name": widget._model_name,
                "model_module": widget._model_module,
                "model_module_version": widget._model_module_version,
                "state": widget.get_state(),
            }
            for widget in self._widgets(self._manager.comms)
        }
        return data | {"states": data["states"] | own}

    def _widgets(self, comm_ids: Iterable[str]) -> list[Widget]:
        from ipywidgets.widgets.widget import _instances

        return [_instances[comm_id] for comm_id in comm_ids if comm_id in _instances]

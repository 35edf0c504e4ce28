"""Comms as the front knows them: which the guest has, and the front's own.

The front's are those of targets named ``kernel_runtime.…``, and the models of its panels
(``panels/stage.py``). They are answered while a cell runs, and no guest can open, close, write to
or imitate one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.jupyter.contents import CommData, CommOpen, Content
from kernel_runtime.jupyter.policy import FRONT_TARGET

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable

    from kernel_runtime.jupyter.requests import Comm

    #: A front's target: data of a comm_open or comm_msg → data to send back (None: nothing).
    Target = Callable[[dict[str, Any]], Awaitable[dict[str, Any] | None]]

MAX_COMMS = 100_000
_WIDGET_TARGET = "jupyter.widget"


class Comms:
    """Registry of open comms, by id."""

    def __init__(self) -> None:
        self.targets: dict[str, Target] = {}
        self._guest: dict[str, str] = {}
        self._front: dict[str, str] = {}

    @property
    def of_front(self) -> Collection[str]:
        """The ids of the front's own comms, as they are at any time."""
        return self._front.keys()

    @property
    def guest_has_widgets(self) -> bool:
        """Whether the guest has models in the page."""
        return _WIDGET_TARGET in self._guest.values()

    def own(self, comm_id: str, target: str) -> None:
        """The front opens a comm of its own."""
        self._front[comm_id] = target

    def disown(self, comm_id: str) -> None:
        """A comm of the front is closed."""
        self._front.pop(comm_id, None)

    def of_guest(self, content: Content) -> bool:
        """Note what the guest opens and closes; False when it means a comm of the front."""
        if isinstance(content, CommOpen):
            if content.comm_id in self._front:
                return False
            self._take(content.comm_id, content.target_name)
        elif isinstance(content, CommData) and content.comm_id in self._front:
            return False
        return True

    def _take(self, comm_id: str, target: str) -> None:
        if len(self._guest) >= MAX_COMMS and comm_id not in self._guest:
            raise ProtocolViolation(f"more than {MAX_COMMS} comms are open")
        self._guest[comm_id] = target

    def target_of(self, content: Content) -> str | None:
        """What the comm of a guest's message was opened for; None when the guest has no such comm."""
        return self._guest.get(content.comm_id) if isinstance(content, CommData) else None

    def is_of_guest(self, comm_id: str) -> bool:
        """Whether the guest has a comm of this id."""
        return comm_id in self._guest

    def target_of_front(self, comm_id: str) -> str | None:
        """What a comm of the front was opened for."""
        return self._front.get(comm_id)

    def guest_told(self, models: Iterable[str]) -> None:
        """The guest has told all its models: also those of a snapshot that took its place."""
        for model in models:
            self._take(model, _WIDGET_TARGET)

    def guest_closed(self, comm_id: str) -> None:
        """Forget a comm of the guest."""
        self._guest.pop(comm_id, None)

    def guest_died(self) -> None:
        """Its comms are gone with it."""
        self._guest.clear()

    def info(self, target: str | None) -> dict[str, dict[str, str]]:
        """Content of ``comm_info_reply``: open comms, all or of one target."""
        both = self._guest | self._front
        return {key: {"target_name": name} for key, name in both.items() if target in (None, name)}

    def is_front(self, comm: Comm) -> bool:
        """Whether a client's comm message is for the front."""
        return comm.comm_id in self._front or comm.target_name.startswith(FRONT_TARGET)

    def note_client(self, kind: str, comm: Comm) -> None:
        """A client opens or closes a comm of the guest."""
        if kind == "comm_open":
            self._guest[comm.comm_id] = comm.target_name
        elif kind == "comm_close":
            self.guest_closed(comm.comm_id)

    async def at_front(self, kind: str, comm: Comm) -> tuple[str, dict[str, Any]] | None:
        """A client's message to a front's target → the message that answers it, or None."""
        if kind == "comm_close":
            self.disown(comm.comm_id)
            return None
        name = self._front.get(comm.comm_id, comm.target_name)
        target = self.targets.get(name)
        if target is None or (kind == "comm_open" and comm.comm_id in self._guest):
            return "comm_close", {}
        if kind == "comm_open":
            self._front[comm.comm_id] = name
        data = await target(comm.data)
        return None if data is None else ("comm_msg", data)

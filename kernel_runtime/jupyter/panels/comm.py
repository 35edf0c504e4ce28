"""ipywidgets' comms, spoken by a stage instead of an IPython kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comm
from comm.base_comm import BaseComm, CommManager

if TYPE_CHECKING:
    from collections.abc import Callable

    #: Type, content, metadata and buffers of a message.
    Say = Callable[[str, dict[str, Any], dict[str, Any] | None, list[bytes]], None]

_FIELDS = ("target_name", "target_module")


class StageComm(BaseComm):
    """One comm of a widget; its words leave through ``say``."""

    def __init__(self, say: Say, **options: Any) -> None:
        self._say = say
        super().__init__(**options)

    def publish_msg(
        self,
        msg_type: str,
        data: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        buffers: list[bytes] | None = None,
        **keys: Any,
    ) -> None:
        content = {"comm_id": self.comm_id, "data": data or {}} | {
            name: keys[name] for name in _FIELDS if name in keys
        }
        self._say(msg_type, content, metadata, buffers or [])

    def handle_msg(self, msg: dict[str, Any]) -> None:
        """To the widget; without the hooks of an IPython shell, which there is none of."""
        if self._msg_callback is not None:
            self._msg_callback(msg)


def connect(say: Say) -> CommManager:
    """From now on every widget made in this process speaks through ``say``."""
    manager = CommManager()
    comm.create_comm = lambda *_, **options: StageComm(say, **options)
    comm.get_comm_manager = lambda: manager
    return manager

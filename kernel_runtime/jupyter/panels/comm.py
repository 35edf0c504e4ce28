"""ipywidgets' comms, spoken by a stage instead of an IPython kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comm
from comm.base_comm import BaseComm, CommManager

if TYPE_CHECKING:
    from kernel_runtime.jupyter.panels.stage import Stage

_FIELDS = ("target_name", "target_module")


class StageComm(BaseComm):
    """One comm of a widget; its words leave through the stage."""

    def __init__(self, stage: Stage, **options: Any) -> None:
        self._stage = stage
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
        self._stage.say(msg_type, content, metadata, buffers or [])

    def handle_msg(self, msg: dict[str, Any]) -> None:
        """To the widget; without the hooks of an IPython shell, which there is none of."""
        if self._msg_callback is not None:
            self._msg_callback(msg)


def connect(stage: Stage) -> CommManager:
    """From now on every widget made in this process speaks through ``stage``."""
    manager = CommManager()
    comm.create_comm = lambda *_, **options: StageComm(stage, **options)
    comm.get_comm_manager = lambda: manager
    return manager

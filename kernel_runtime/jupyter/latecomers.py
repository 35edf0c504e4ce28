"""Clients that come later, as a page that is loaded anew: they ask for the states of all models, or of one.

The guest answers for its own widgets, and the front's panels are added (``relay.py``). While the guest is busy the
front answers for both, with what the guest has told the page before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime.jupyter.contents import encode
from kernel_runtime.jupyter.outgoing import Outgoing
from kernel_runtime.jupyter.policy import CONTROL_TARGET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kernel_runtime.jupyter.comms import Comms
    from kernel_runtime.jupyter.messages import Message
    from kernel_runtime.jupyter.panels.stage import Stage
    from kernel_runtime.jupyter.policy import Gate
    from kernel_runtime.jupyter.publisher import Publisher
    from kernel_runtime.jupyter.requests import Comm


class Latecomers:
    """See the module. ``busy``: whether the guest would not answer now."""

    def __init__(
        self, publisher: Publisher, comms: Comms, gate: Gate, stage: Stage, busy: Callable[[], bool]
    ) -> None:
        self._publisher = publisher
        self._comms = comms
        self._gate = gate
        self._stage = stage
        self._busy = busy

    def answer(self, message: Message, comm: Comm) -> bool:
        """Answer a client's message, if it is one of these and the guest is not to; whether it was."""
        if self._comms.target_of_front(comm.comm_id) == CONTROL_TARGET:
            self._controlled(message, comm)
        elif message.kind == "comm_open" and comm.target_name == CONTROL_TARGET and self._answers(comm):
            self._comms.own(comm.comm_id, CONTROL_TARGET)
        elif message.kind == "comm_msg" and comm.data.get("method") == "request_state" and self._busy():
            return self._one(message, comm.comm_id)
        else:
            return False
        return True

    def _answers(self, comm: Comm) -> bool:
        """Whether the front knows all models, and the guest has none or cannot say them now."""
        if self._comms.is_of_guest(comm.comm_id):
            return False
        if self._gate.states.whole:
            return self._busy() or not self._comms.guest_has_widgets
        return self._busy() and self._stage.is_open and not self._comms.guest_has_widgets

    def _controlled(self, message: Message, comm: Comm) -> None:
        if message.kind == "comm_close":
            self._comms.disown(comm.comm_id)
        elif comm.data.get("method") == "request_states":
            states, paths, buffers = self._gate.told()
            data = {"method": "update_states", "states": states, "buffer_paths": paths}
            self._say(message, comm.comm_id, self._stage.add_states(data), buffers)

    def _one(self, message: Message, model: str) -> bool:
        """The state of one of the guest's models, for clients that do not ask for all at once."""
        told = self._gate.told_of(model)
        if told is None:
            return False
        data = {"method": "update", "state": told.state, "buffer_paths": told.paths}
        self._say(message, model, data, told.buffers)
        return True

    def _say(self, message: Message, comm_id: str, data: dict[str, Any], buffers: Sequence[bytes]) -> None:
        content = encode({"comm_id": comm_id, "data": data})
        self._publisher.publish(Outgoing("comm_msg", content, message.raw, buffers=buffers))

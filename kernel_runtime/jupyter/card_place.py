"""Where cards go: under the cell that runs, or ran last, whose client has a person in front of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime.jupyter.requests import Execute, read

if TYPE_CHECKING:
    from kernel_runtime.jupyter.messages import Message
    from kernel_runtime.jupyter.relay import Desk


class UnderTheCell:
    """Obeys ``asking.Place``; the line of cells tells it which one runs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._message: Message | None = None

    def runs(self, message: Message) -> None:
        """This cell begins."""
        self._message = message

    @property
    def cell(self) -> bytes | None:
        """Its request; None where its client cannot ask anybody (nbclient, papermill), by its own word."""
        if self._message is None or not read(self._message, Execute).allow_stdin:
            return None
        return self._message.raw

    def show(self, bundle: dict[str, Any], parent: bytes) -> None:
        self._desk.publish("display_data", {"data": bundle, "metadata": {}, "transient": {}}, parent)

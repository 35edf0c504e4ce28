"""What of a guest's output a level lets pass: one pure gate, ``admit``.

The front calls it for every validated content before it is signed; issue by issue the rules
grow here and nowhere else (mime types, sanitising, comm targets, payloads).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_runtime.domain.level import Level
from kernel_runtime.jupyter.contents import CommOpen, Content, ExecuteReply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernel_runtime.jupyter.contents import Object

#: Comm targets with this prefix belong to the front.
FRONT_TARGET = "kernel_runtime."
#: Payloads of an execute_reply and the levels that let them pass: ``set_next_input`` writes
#: into the person's next cell, ``edit`` and ``edit_magic`` open a file of theirs, ``ask_exit`` ends
#: the kernel: that is the person's decision, not the guest's.
PAYLOADS: dict[str, frozenset[Level]] = {
    "page": frozenset(Level),
    "set_next_input": frozenset({Level.MODERATE, Level.PERMISSIVE}),
    "edit_magic": frozenset({Level.PERMISSIVE}),
    "edit": frozenset({Level.PERMISSIVE}),
    "ask_exit": frozenset({Level.MODERATE, Level.PERMISSIVE}),
}


def admit(kind: str, content: Content, level: Level) -> Content | None:
    """The content as the level lets it pass, or None when nothing of it passes."""
    if isinstance(content, CommOpen) and content.target_name.startswith(FRONT_TARGET):
        return None
    if isinstance(content, ExecuteReply):
        content.payload = admit_payloads(content.payload, level)
    return content


def admit_payloads(payloads: Iterable[Object], level: Level) -> list[Object]:
    """The payloads the level lets pass, in order; unknown sources never."""
    return [
        payload
        for payload in payloads
        if isinstance(source := payload.get("source"), str) and level in PAYLOADS.get(source, ())
    ]

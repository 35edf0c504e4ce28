"""The magics that the trusted front answers itself: they stand in a cell of their own."""

from __future__ import annotations

#: Name → what it does, in a few words.
FRONT = {
    "limits": "show what this kernel's guest may use",
    "undo": "go back to the state before the last cells",
    "redo": "take back the last %undo or %restore",
    "snapshot": "keep the present state under a name",
    "snapshots": "show the snapshots, pin or drop one",
    "restore": "go back to a snapshot",
    "branch": "switch to another line of state, or begin one",
    "diff": "show which variables differ between two states",
    "checkpoint": "keep the present state on disk",
    "pause": "stop the guest until the next cell, and give memory back",
    "files": "show, compare, keep or drop the files that the guest has changed",
    "gates": "show the copies that were made at gates",
    "cap": "show what this notebook may ask of the host",
    "resources": "watch what the guest uses, throttle, pause or kill it",
    "permissions": "see, grant and revoke what the guest may do, and the audit trail",
    "logs": "search what guests have printed, logged and been decided",
    "replay": "run a cell again on the state it first had",
}
#: Those that for a guest of ``%%sandbox`` have another name there; the others are ``%sandbox NAME``.
_OTHERWISE = {"limits": "list", "cap": "permissions"}


def in_sandbox(name: str) -> str:
    """What answers it for a guest of ``%%sandbox``."""
    return f"%sandbox {_OTHERWISE.get(name, name)}"


#: What ``%gate`` does with a copy that was made: the front answers that, too.
GATE_ACTIONS = ("show", "eval", "set", "resume", "drop")

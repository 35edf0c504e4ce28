"""The attacks that doctor makes on every wall, as data: code to run inside a guest.

Each is run three times, in throw-away guests of their own. Behind all walls it must fail. With the
walls of ``covers`` gone it must still fail, by its own wall: depth would otherwise hide a wall that
is broken. With its own wall gone, too, it must succeed: a control without which a refusal proves nothing.

Success is to set ``answer`` to the mark, a random text that is planted outside and told to the
attack; any exception is a refusal. ``planted`` (see ``attack.Planted``) says what lies where. No attack
does harm where it succeeds: it reads, connects and opens what doctor has planted itself, changes
nothing but its own guest, and takes small amounts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_runtime.workers.attacks_outside import OUTSIDE
from kernel_runtime.workers.attacks_within import WITHIN

if TYPE_CHECKING:
    from kernel_runtime.workers.attack import Attack

ATTACKS: tuple[Attack, ...] = (*OUTSIDE, *WITHIN)

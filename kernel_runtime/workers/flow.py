"""A guest's messages against their rate: a burst passes, a flood is cut, its end is shown.

Text is never cut here, only joined: its amount is limited in bytes. Of other messages that come
faster than the limit the last ones are kept and handed on at the rate; the rest is counted and
left out, with a notice. Replies and ends pass at once, after what was kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from kernel_runtime import wire
from kernel_runtime.domain.amounts import MIB, show_amount
from kernel_runtime.domain.errors import ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.workers.account import Account

#: Messages that wait for their turn; of more the oldest is left out.
KEPT = 200
#: Text that waits for its turn; more of it goes on without.
_TEXT = MIB
#: How much faster than its limit a guest is read at all.
HASTE = 20


def haste(messages: int | None) -> float | None:
    """Frames per second at which a guest with this limit is read; beyond that it waits."""
    return None if messages is None else float(max(2000, HASTE * messages))


class _Held:
    """A frame that waits; the texts of a stream are joined when it goes on."""

    def __init__(self, frame: wire.Said) -> None:
        self.frame = frame
        self.texts = [frame.text] if isinstance(frame, wire.Stream) else []

    def takes(self, frame: wire.Said) -> bool:
        mine = self.frame
        if not isinstance(frame, wire.Stream) or not isinstance(mine, wire.Stream):
            return False
        return (mine.parent, mine.name) == (frame.parent, frame.name)

    def joined(self) -> wire.Said:
        if isinstance(self.frame, wire.Stream):
            return wire.Stream(parent=self.frame.parent, name=self.frame.name, text="".join(self.texts))
        return self.frame


def _keep(_: object) -> None:
    """It is closed."""


class Flow:
    """Between a branch and the sinks: ``deliver`` gets what passes, ``on_cut`` the request whose
    messages are being cut, once for each flood, ``on_trouble`` what a message that had waited
    turned out to be.
    """

    def __init__(
        self,
        account: Account,
        deliver: Callable[[wire.Said], None],
        on_cut: Callable[[str], None],
        on_trouble: Callable[[ProtocolViolation], None],
    ) -> None:
        self._account = account
        self._deliver = deliver
        self._on_cut = on_cut
        self._on_trouble = on_trouble
        self._held: deque[_Held] = deque()
        self._text = 0
        self._cut: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def take(self, frame: wire.Stream | wire.Publish, size: int) -> None:
        """A message of ``size`` bytes that counts."""
        self._account.sent(size)
        bucket = self._account.messages
        if bucket is None or (not self._held and bucket.take(self._account.now())):
            self._deliver(frame)
            return
        self._hold(frame)

    def settle(self, parent: str = "") -> None:
        """Hand on what waits now: a reply, an end or the guest's last word comes next."""
        while self._held:
            self._release()
        self._tell(parent)

    def close(self) -> None:
        """Hand nothing on any more, and let go of those it was handed to."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.clear()
        self._deliver = self._on_cut = self._on_trouble = _keep

    def _hold(self, frame: wire.Stream | wire.Publish) -> None:
        text = frame.text if isinstance(frame, wire.Stream) else ""
        if self._held and self._held[-1].takes(frame):
            self._held[-1].texts.append(text)
        else:
            self._held.append(_Held(frame))
        self._text += len(text)
        if len(self._held) > KEPT:
            self._leave_out()
        while self._text > _TEXT:
            self._release()
        if self._timer is None:
            self._wait()

    def _leave_out(self) -> None:
        """The oldest that is no text; where all is text, the oldest goes on."""
        for held in self._held:
            if not held.texts:
                self._held.remove(held)
                parent = held.frame.parent if isinstance(held.frame, wire.Publish) else ""
                first = parent not in self._cut
                self._cut[parent] = self._cut.get(parent, 0) + 1
                if first:
                    self._on_cut(parent)
                return
        self._release()

    def _release(self) -> None:
        """The oldest goes on, joined with the text that has come to stand next to it."""
        held = self._held.popleft()
        while self._held and held.texts and self._held[0].takes(held.frame):
            held.texts += self._held.popleft().texts
        self._text -= sum(map(len, held.texts))
        self._deliver(held.joined())

    def _wait(self) -> None:
        bucket = self._account.messages
        if bucket is not None and self._held:
            pause = max(0.01, bucket.wait(self._account.now()))
            self._timer = asyncio.get_running_loop().call_later(pause, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        bucket = self._account.messages
        try:
            while self._held and bucket is not None and bucket.take(self._account.now()):
                self._release()
        except ProtocolViolation as error:
            self._on_trouble(error)
        else:
            self._wait()

    def _tell(self, parent: str) -> None:
        """How many were left out, where the request's flood is over."""
        count = self._cut.pop(parent, 0)
        if count:
            limit = show_amount("messages", self._account.limits.messages)
            text = f"\n[kernel_runtime: {count} messages were left out: more than {limit}]\n"
            self._deliver(wire.Stream(parent=parent, name="stderr", text=text))

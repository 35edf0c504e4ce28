"""One reader's queue: lossless within a budget of bytes, bounded beyond it; pure, no I/O.

Each subscriber has its own queue, so that one that stalls costs memory up to its budget and
never time of another. The queue is three pieces: ``head`` (the oldest, up to half the budget),
``tail`` (the newest, the other half) and between them ``middle``: what fell out of the tail.
Output that falls there is counted and becomes one notice; status, errors, comm and input
messages are kept whole and in order. Should even those exceed the budget, the reader is taken
for dead (``overfull``) and its connection is closed: a living client connects again.
"""

from __future__ import annotations

from collections import deque

from kernel_runtime.domain.amounts import show_bytes
from kernel_runtime.jupyter.outgoing import Outgoing, stream


class Gap:
    """Output of one cell that was left out: how many messages, how many bytes."""

    __slots__ = ("count", "parent", "size")

    def __init__(self, parent: bytes) -> None:
        self.parent = parent
        self.count = 0
        self.size = 0

    def add(self, out: Outgoing) -> None:
        self.count += out.count
        self.size += out.size

    def notice(self) -> Outgoing:
        """The gap as text on stderr of its cell."""
        text = omitted(self.count, self.size, "this client did not read it in time")
        return stream("stderr", [text], self.parent)


def omitted(count: int, size: int, why: str) -> str:
    """The one wording for output that was left out."""
    messages = f"{count:,}".replace(",", " ")
    return f"\n[kernel_runtime: {messages} messages / {show_bytes(size)} of output omitted here; {why}]\n"


class Outbox:
    """Queue of one subscriber: ``push`` what is published, ``pop`` what can be sent."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.size = 0
        self._head: deque[Outgoing] = deque()
        self._middle: deque[Outgoing | Gap] = deque()
        self._tail: deque[Outgoing] = deque()
        self._tail_size = 0
        self._own: Outgoing | None = None

    def __len__(self) -> int:
        return len(self._head) + len(self._middle) + len(self._tail)

    @property
    def overfull(self) -> bool:
        """Even what must not be dropped exceeds the budget."""
        return self.size > 2 * self.budget

    def push(self, out: Outgoing) -> None:
        """Append; streams grow the last entry, a full tail moves to the middle."""
        to_tail = bool(self._middle or self._tail) or self.size + out.size > self.budget // 2
        queue = self._tail if to_tail else self._head
        if queue and queue[-1].takes(out):
            self._grow(queue, out, to_tail)
            return
        queue.append(out)
        self.size += out.size
        if to_tail:
            self._tail_size += out.size
            self._trim()

    def pop(self) -> Outgoing | None:
        """The oldest entry, a gap as its notice; None when there is nothing."""
        if self._head:
            return self._forget(self._head.popleft())
        if self._middle:
            first = self._middle.popleft()
            return first.notice() if isinstance(first, Gap) else self._forget(first)
        if self._tail:
            self._head, self._tail, self._tail_size = self._tail, deque(), 0
            return self._forget(self._head.popleft())
        return None

    def clear(self) -> None:
        """Forget everything."""
        self._head.clear()
        self._middle.clear()
        self._tail.clear()
        self.size = self._tail_size = 0

    def _grow(self, queue: deque[Outgoing], out: Outgoing, to_tail: bool) -> None:
        last = queue[-1]
        if last is not self._own:  # shared with other readers: grow a copy
            last = self._own = queue[-1] = last.copy()
        before = last.size
        last.append(out)
        self.size += last.size - before
        if to_tail:
            self._tail_size += last.size - before
            self._trim()

    def _trim(self) -> None:
        while self._tail_size > self.budget // 2 and len(self._tail) > 1:
            out = self._tail.popleft()
            self._tail_size -= out.size
            if out.droppable:
                self.size -= out.size
                self._gap(out.parent).add(out)
            else:
                self._middle.append(out)

    def _gap(self, parent: bytes) -> Gap:
        last = self._middle[-1] if self._middle else None
        if not isinstance(last, Gap) or last.parent != parent:
            last = Gap(parent)
            self._middle.append(last)
        return last

    def _forget(self, out: Outgoing) -> Outgoing:
        self.size -= out.size
        return out

"""What the front publishes: one message, or text of a stream that may still grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.amounts import MESSAGE_OVERHEAD
from kernel_runtime.jupyter import zmtp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernel_runtime.jupyter.messages import Scribe

#: Streams grow up to this while they wait; bigger messages help nobody.
MERGE_BYTES = 256 * 1024
#: Output a reader can do without when it does not fit; all else is never dropped.
DROPPABLE = frozenset({"stream", "display_data", "update_display_data", "execute_result"})


class Outgoing:
    """An IOPub message on its way; encoded once, when the first subscriber takes it."""

    __slots__ = (
        "_wire",
        "buffers",
        "content",
        "count",
        "kind",
        "metadata",
        "name",
        "parent",
        "size",
        "texts",
    )

    def __init__(
        self,
        kind: str,
        content: bytes,
        parent: bytes = b"{}",
        metadata: bytes = b"{}",
        buffers: Sequence[bytes] = (),
    ) -> None:
        self.kind = kind
        self.content = content
        self.parent = parent
        self.metadata = metadata
        self.buffers = buffers
        self.name = ""
        self.count = 1
        self.texts: list[str] = []
        self.size = MESSAGE_OVERHEAD + len(content) + len(metadata) + sum(map(len, buffers))
        self._wire: bytes | None = None

    @property
    def droppable(self) -> bool:
        """Whether it may give way to a notice when a reader does not keep up."""
        return self.kind in DROPPABLE

    def takes(self, other: Outgoing) -> bool:
        """Whether ``other`` is more text of the same stream, and there is room for it."""
        return (
            self.kind == "stream" == other.kind
            and self.name == other.name
            and self.parent == other.parent
            and self._wire is None
            and self.size + other.size <= MERGE_BYTES
        )

    def append(self, other: Outgoing) -> None:
        """Grow by the text of ``other``."""
        self.texts += other.texts
        self.size += other.size - MESSAGE_OVERHEAD
        self.count += other.count

    def copy(self) -> Outgoing:
        """A stream of its own with the same text, to grow in one reader's queue."""
        twin = stream(self.name, list(self.texts), self.parent, self.size)
        twin.count = self.count
        return twin

    def encoded(self, scribe: Scribe, topic: bytes) -> bytes:
        """ZMTP frames of topic and message, signed once."""
        if self._wire is None:
            content = self.content
            if self.kind == "stream":
                content = msgspec.json.encode({"name": self.name, "text": "".join(self.texts)})
            parts = scribe.write(self.kind, content, self.parent, self.metadata, self.buffers)
            self._wire = zmtp.encode([topic, *parts])
        return self._wire


def stream(name: str, texts: list[str], parent: bytes, size: int | None = None) -> Outgoing:
    """Text for ``stdout`` or ``stderr``."""
    out = Outgoing("stream", b"", parent)
    out.name = name
    out.texts = texts
    out.size = MESSAGE_OVERHEAD + sum(map(len, texts)) if size is None else size
    return out

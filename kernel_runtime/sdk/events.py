"""Messages between the guests of one runtime, by topic. Asks for ``events:publish:<topic>`` and ``events:subscribe:<topic>``.

    from kernel_runtime.sdk import events

    with events.subscribe("prices") as prices:
        for message in prices:          # or: async for
            print(message.data)

    events.publish("prices", {"copper": 9.4})

Whoever does not listen loses what is said; of more than 1000 messages that wait the oldest are lost, and
``Subscription.lost`` counts them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kernel_runtime.sdk.door import Ask, awaited, both, nothing, same, waited

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

__all__ = ["Message", "Subscription", "apublish", "asubscribe", "publish", "subscribe"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Message:
    """``sender``: the app that published it, as the host knows it."""

    topic: str
    sender: str
    data: Any


class Subscription:
    """An iterator, for ``for`` and ``async for``, that waits for each message; ends when it is closed."""

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.lost = 0
        self._number = number
        self._waiting: deque[Message] = deque()
        self._closed = False

    def get(self, timeout: float | None = None) -> Message | None:
        """The next message; ``None`` when none comes within ``timeout`` seconds (without one: waits)."""
        while not self._waiting and not self._closed:
            waited(self._poll(timeout))
            if timeout is not None:
                break
        return self._waiting.popleft() if self._waiting else None

    async def aget(self, timeout: float | None = None) -> Message | None:  # noqa: ASYNC109 - as get
        """``await`` it: the next message."""
        while not self._waiting and not self._closed:
            await awaited(self._poll(timeout))
            if timeout is not None:
                break
        return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        """Listen no more."""
        if not self._closed:
            self._closed = True
            waited(Ask("events", "unsubscribe", {"subscription": self._number}, nothing))

    def _poll(self, timeout: float | None) -> Ask[None]:
        wait = 30.0 if timeout is None else min(60.0, max(0.0, float(timeout)))
        return Ask("events", "poll", {"subscription": self._number, "wait": wait}, self._take)

    def _take(self, found: dict[str, Any]) -> None:
        self.lost += found["dropped"]
        for message in found["messages"]:
            self._waiting.append(Message(message["topic"], message["from"], message["data"]))

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        message = self.get()
        if message is None:
            raise StopIteration
        return message

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        message = await self.aget()
        if message is None:
            raise StopAsyncIteration
        return message

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _publish(topic: str, data: Any = None) -> Ask[int]:
    """Say something to all who listen now; returns how many do."""
    return Ask("events", "publish", {"topic": topic, "data": data}, same)


def _subscribe(topic: str) -> Ask[Subscription]:
    """Listen to a topic from now on."""
    return Ask("events", "subscribe", {"topic": topic}, lambda number: Subscription(topic, number))


publish, apublish = both(_publish)
subscribe, asubscribe = both(_subscribe)

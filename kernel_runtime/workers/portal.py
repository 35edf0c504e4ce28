"""A small blocking portal: one thread with an event loop, for callers that cannot await."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

from kernel_runtime.domain.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

T = TypeVar("T")
#: Between two looks while a caller waits.
_LOOK_SECONDS = 0.5


class Portal:
    """Runs coroutines in its own loop; ``call`` blocks the caller until they are done."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # The zygote dies with the thread that started it, so this one lives as long as the process.
        self._thread = threading.Thread(target=self._run, name="kernel-runtime-portal", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def call(self, coroutine: Coroutine[Any, Any, T], on_interrupt: Callable[[], None] | None = None) -> T:
        """The coroutine's result. A KeyboardInterrupt here calls ``on_interrupt`` in the loop and
        goes on waiting, so that the guest's own answer to it is seen; without it, cancels."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise Conflict(
                "a blocking call from within the portal's own loop would wait for itself; use the async form"
            )
        future, done = asyncio.run_coroutine_threadsafe(coroutine, self._loop), threading.Event()
        future.add_done_callback(lambda _: done.set())
        while True:
            try:
                while not done.wait(_LOOK_SECONDS):
                    pass  # a signal that came just before the waiting is heard now
                return future.result()
            except KeyboardInterrupt:
                if on_interrupt is None or future.done():
                    future.cancel()
                    raise
                self._loop.call_soon_threadsafe(on_interrupt)

    def close(self) -> None:
        """Stop the loop and wait for the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()

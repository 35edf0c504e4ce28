"""What panels have in common: deeds told in a sentence, and looking again and again."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import ipywidgets

from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.jupyter.panels.differences import escape
from kernel_runtime.jupyter.verdicts import sentence

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Deed = Callable[[], Awaitable[str]]

#: Characters of what is told of a deed: names of files and of what is missing stand in it.
MAX_SAID = 4000


class Acting:
    """Deeds of one panel, one at a time; ``said`` tells how the last one went. ``changed`` is called when
    one begins and when it is over."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.said = ipywidgets.HTML().add_class("kr-said")
        self.task: asyncio.Task[None] | None = None
        self._changed = changed
        self._closed = False
        self._loop = asyncio.get_running_loop()

    @property
    def idle(self) -> bool:
        return self.task is None

    def close(self) -> None:
        """No more deeds begin."""
        self._closed = True

    def button(self, label: str, icon: str, tooltip: str, deed: Deed) -> Any:
        """A button that does it."""
        button = ipywidgets.Button(description=label, icon=icon, tooltip=tooltip)
        button.on_click(lambda _: self._pressed(deed))
        return button

    def _pressed(self, deed: Deed) -> None:
        self.soon(lambda: self.begin(deed))

    def soon(self, call: Callable[[], object]) -> None:
        """Call it in the panel's own loop, whichever thread has heard of it; at once where that is here."""
        if asyncio._get_running_loop() is self._loop:
            call()
        else:
            self._loop.call_soon_threadsafe(call)

    def begin(self, deed: Deed) -> None:
        """Begin a deed, unless one is under way."""
        if self.task is None and not self._closed:
            self.task = asyncio.get_running_loop().create_task(self._act(deed))
            self._changed()

    async def _act(self, deed: Deed) -> None:
        try:
            self.say(await deed(), "kr-done")
        except KernelRuntimeError as error:
            self.say(str(error), "kr-error")
        except Exception as error:  # noqa: BLE001 - a deed that fails is told, the panel goes on
            traceback.print_exc(file=sys.stderr)
            self.say(f"it did not work ({type(error).__name__})", "kr-error")
        finally:
            self.task = None
            if not self._closed:
                self._changed()

    def say(self, text: str, kind: str) -> None:
        """A sentence below the panel, ``kr-done`` or ``kr-error``."""
        for each in ("kr-error", "kr-done"):
            self.said.remove_class(each)
        self.said.add_class(kind)
        role = "alert" if kind == "kr-error" else "status"
        self.said.value = f'<span role="{role}">{escape(sentence(text), MAX_SAID)}</span>'

    def hush(self) -> None:
        """What was said last is past."""
        self.said.value = ""


#: Of one processor's time, so much may go into looking: a look that takes long is followed by a long rest.
LOOK_SHARE, LONGEST_REST = 0.005, 15.0


class Ticker:
    """Looks again every ``seconds``, or less often where looking costs much, in the loop, until it is
    closed; a look that fails is told on stderr and followed by the next one."""

    def __init__(self, seconds: float, look: Callable[[], Awaitable[None]]) -> None:
        self.seconds = seconds
        self._look = look
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        rest = self.seconds
        while True:
            await asyncio.sleep(rest)
            begun = time.thread_time()
            try:
                await self._look()
            except KernelRuntimeError as error:
                print(f"kernel_runtime: {error}", file=sys.stderr)
            except Exception:  # noqa: BLE001 - the panel goes on
                traceback.print_exc(file=sys.stderr)
            rest = max(self.seconds, min(LONGEST_REST, (time.thread_time() - begun) / LOOK_SHARE))

    def close(self) -> None:
        """Idempotent."""
        self._task.cancel()


def counted(number: int, thing: str) -> str:
    """``1 line``, ``2 lines``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def row(*parts: Any) -> Any:
    """Buttons and fields beside each other."""
    return ipywidgets.HBox(list(parts)).add_class("kr-actions")


def show(widget: Any, shown: bool) -> None:
    """In sight, or not."""
    display = None if shown else "none"
    if widget.layout.display != display:
        widget.layout.display = display


def offer(widget: Any, options: list[tuple[str, Any]], *, first: bool = False) -> None:
    """Other options; the choice stays with what was chosen. ``first``: else the first is."""
    values = [value for _, value in options]
    kept = widget.value if widget.value in values else values[0] if first and values else None
    if list(widget.options) != options:
        with widget.hold_sync():
            widget.options = options
            widget.value = kept
    elif widget.value != kept:
        widget.value = kept

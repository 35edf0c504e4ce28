"""How soon a cell that was interrupted has answered, whatever it was doing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.figures import OURS, Reading, Spec
from benchmarks.kernels import SUBJECTS, Kernel, house, kernel
from benchmarks.registry import benchmark
from benchmarks.turns import turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

#: Each ends by itself after a while: not every kernel hears an interrupt in all of them.
CELLS = {
    "interrupt.loop": "import time; end = time.time() + 5\nwhile time.time() < end: pass",
    "interrupt.sleep": "import time; time.sleep(5)",
    "interrupt.input": "input()",
    "interrupt.await": "import asyncio; await asyncio.sleep(5)",
}
_AT_WORK = 0.1


@benchmark(
    "interrupt",
    Spec(name="interrupt.loop", what="interrupt of a busy loop → reply"),
    Spec(name="interrupt.sleep", what="interrupt of time.sleep → reply"),
    Spec(name="interrupt.input", what="interrupt of input() → reply"),
    Spec(name="interrupt.await", what="interrupt of a top-level await → reply"),
)
def interrupt(scale: Scale) -> Iterator[Reading]:
    """A cell says that it runs, is left at it for a moment, and is interrupted through jupyter_client."""
    with house(), kernel(SUBJECTS[0]) as ours, kernel(SUBJECTS[1]) as theirs:
        kernels = {one.subject: one for one in (ours, theirs)}
        for one in kernels.values():
            one.ready()
            one.client.stdin_channel.start()  # else nobody could answer input()
            one.client.allow_stdin = True
        for subject in turns(scale.rounds, SUBJECTS):
            for name, code in CELLS.items():
                yield Reading(name, subject, _seconds(kernels[subject], code))


def _seconds(one: Kernel, code: str) -> float:
    asked = one.client.execute(f"print('at work', flush=True)\n{code}")
    messages = one.stream(asked)
    while next(messages)["msg_type"] != "stream":
        pass
    time.sleep(_AT_WORK)
    if one.client.shell_channel.msg_ready():
        raise RuntimeError(f"{one.subject}: it did not wait for an interrupt: {code}")
    begun = time.perf_counter()
    one.manager.interrupt_kernel()
    ended = "ran to its end"
    try:
        one.reply(asked)
    except RuntimeError as error:
        ended = str(error)
    seconds = time.perf_counter() - begun
    list(messages)
    if one.subject == OURS and "KeyboardInterrupt" not in ended:
        raise RuntimeError(f"no KeyboardInterrupt: {ended}")
    return seconds

"""Much output: in one piece, in lines, as displays, and to a client that does not keep up."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from benchmarks.figures import Reading, Spec
from benchmarks.kernels import SUBJECTS, Kernel, house, kernel, pair
from benchmarks.registry import benchmark
from benchmarks.turns import turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

_SILENT = 5.0


@benchmark(
    "output",
    Spec(name="output.one_print", what="10 MB in one print"),
    Spec(name="output.lines", what="10 MB as 100 000 lines"),
    Spec(name="output.displays", what="1 000 displays"),
)
def output(scale: Scale) -> Iterator[Reading]:
    """Two kernels side by side take turns; until reply and idle, all output received."""
    codes = {
        "output.one_print": f"print('x' * {scale.characters})",
        "output.lines": f"for _ in range({scale.lines}): print('x' * 99)",
        "output.displays": f"for i in range({scale.displays}): display(i)",
    }
    with house(), pair(scale.idle) as both:
        for one in turns(scale.rounds, both):
            for name, code in codes.items():
                yield Reading(name, one.subject, one.seconds(code))


@benchmark(
    "flood", Spec(name="output.lost", what="of 50 000 outputs, lost to a slow client", unit="messages")
)
def flood(scale: Scale) -> Iterator[Reading]:
    """The client reads nothing until the cell is over; then everything that still comes."""
    with house():
        for subject in SUBJECTS:
            with kernel(subject) as one:
                one.ready()
                yield Reading("output.lost", subject, scale.flood - _received(one, scale.flood))


def _received(one: Kernel, count: int) -> int:
    asked = one.client.execute(f"for i in range({count}): display(i)")
    one.reply(asked, timeout=300)
    received = 0
    with contextlib.suppress(TimeoutError):
        for message in one.stream(asked, timeout=_SILENT):
            received += message["msg_type"] == "display_data"
    return received

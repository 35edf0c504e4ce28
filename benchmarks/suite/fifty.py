"""Fifty snapshots of one session, all alive: what each takes, and the way back to any of them."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import psutil

from benchmarks.figures import OURS, Reading, Spec
from benchmarks.guests import run, stand
from benchmarks.registry import ABSENT, benchmark
from benchmarks.states import MIX
from kernel_runtime.domain.amounts import GIB
from kernel_runtime.domain.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.guests import Stand
    from benchmarks.scale import Scale

_MB = 1_000_000
_MANY, _FEW = 50, 3
#: By what is changed before each: of the arrays, which are 60 % of the state, this share.
_CHURN = {"same": 0.0, "churn_1": 0.01, "churn_10": 0.1}
#: The state and 50 times a tenth of its arrays: so many times its size must be free.
_PILE = 5.0


@benchmark(
    "fifty",
    *(
        Spec(name=f"fifty.memory.{name}", what=f"memory of each of 50 live snapshots, {what}", unit="B")
        for name, what in (
            ("same", "nothing changed between them"),
            ("churn_1", "1 % of the arrays changed"),
            ("churn_10", "10 % changed"),
        )
    ),
    *(
        Spec(name=f"fifty.restore.{which}", what=f"restore of the {which} of the 50 → first reply")
        for which in ("first", "middle", "last")
    ),
)
def fifty(scale: Scale) -> Iterator[Reading]:
    """A mix of ``scale.state`` megabytes, for each share in a session of its own."""
    size = scale.state * _MB
    with stand() as ours:
        for name, share in _CHURN.items():
            if psutil.virtual_memory().available < _PILE * size:
                ABSENT[f"fifty: {name}"] = f"needs {_PILE * size / GIB:.0f} GB of free memory"
                continue
            yield from ours.wait(_kept(ours, name, share, size, _FEW if scale.name == "tiny" else _MANY))
            gc.collect()


async def _kept(ours: Stand, name: str, share: float, size: int, many: int) -> list[Reading]:
    session = ours.session(automatic=False, limits=Limits(memory=int(_PILE * size) + 2 * GIB))
    try:
        await run(session, f"{MIX}\nstate = make({size})\nturn = 0")
        before = (await session.usage()).memory
        for turn in range(many):
            await run(session, f"touch(state, {share}); turn = {turn}")
            await session.snapshots.take(f"s{turn}", pinned=True)
        each = max(0.0, (await session.usage()).memory - before) / many
        found = [Reading(f"fifty.memory.{name}", OURS, each)]
        for which, turn in (("first", 0), ("middle", many // 2), ("last", many - 1)):
            begun = time.perf_counter()
            await session.snapshots.restore(f"s{turn}")
            back = int(await run(session, "turn"))
            found.append(Reading(f"fifty.restore.{which}", OURS, time.perf_counter() - begun))
            if back != turn:
                raise RuntimeError(f"snapshot {turn} came back as {back}")
        return found
    finally:
        await session.close()

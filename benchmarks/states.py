"""States of a given size for branches to carry: arrays, a table, Python objects, and what changes in them."""

from __future__ import annotations

import random
from typing import Any

_MB = 1_000_000
_DICTS = 435  # of a megabyte of state, as they are in memory

#: What kinds of state there are, by the name of their benchmark: shares of arrays (half of them random), of a table, and
#: of dictionaries and texts.
KINDS = {"numpy": (1, 0, 0), "table": (0, 1, 0), "objects": (0, 0, 1), "mix": (0.6, 0.2, 0.2)}
MIX = f"""
import numpy as np, pandas as pd
KINDS = {KINDS!r}
def make(size, kind="mix"):
    "All four variables, as many bytes of each as the kind asks for."
    arrays, table, objects = (int(size * share) for share in KINDS[kind])
    rng = np.random.default_rng(7)
    numbers = max(arrays // 16, 2)
    return {{
        "random": rng.random(numbers),
        "ordered": np.arange(numbers, dtype=np.float64),
        "table": pd.DataFrame(rng.random((max(1, table // 80), 10))),
        "objects": [{{"id": n, "name": f"item {{n}}", "values": [n, n + 1.5]}} for n in range(objects // 450)],
    }}
def touch(state, share):
    "Overwrite this share of the arrays, page by page."
    for name in ("random", "ordered"):
        state[name][: int(len(state[name]) * share) : 512] += 1.0
"""


def state_of(kind: str, megabytes: int) -> dict[str, Any]:
    """Half of the numbers are random; the mix is 60 % arrays, 20 % frame, 20 % dicts."""
    import numpy as np
    import pandas as pd

    rng, dice = np.random.default_rng(1), random.Random(1)
    count = megabytes * _MB // 80
    arrays = 10 if kind == "arrays" else 6
    state: dict[str, Any] = {
        f"a{n}": rng.random(count) if n % 2 else np.arange(float(count)) for n in range(arrays)
    }
    if kind == "mix":
        state["frame"] = pd.DataFrame(rng.random((count * 2 // 10, 10)))
        state["records"] = [
            {"id": n, "name": f"user {n}", "score": dice.random(), "tags": ["a", "b", f"c{n % 100}"]}
            for n in range(_DICTS * megabytes)
        ]
    return state


def change(state: dict[str, Any], turn: int) -> None:
    """One hundredth of each variable."""
    for value in state.values():
        size = max(1, len(value) // 100)
        start = turn * size % len(value)
        if isinstance(value, list):
            for record in value[start : start + size]:
                record["score"] += 1
        elif hasattr(value, "iloc"):
            value.iloc[start : start + size] += 1
        else:
            value[start : start + size] += 1

"""States of a given size for branches to carry: arrays, a table, Python objects, and what changes in them."""

from __future__ import annotations

MIX = """
import numpy as np, pandas as pd
def make(size):
    "60 % arrays (half of them random), 20 % a table, 20 % dictionaries and texts."
    rng = np.random.default_rng(7)
    numbers = int(size * 0.3) // 8
    return {
        "random": rng.random(numbers),
        "ordered": np.arange(numbers, dtype=np.float64),
        "table": pd.DataFrame(rng.random((max(1, int(size * 0.2) // 80), 10))),
        "objects": [{"id": n, "name": f"item {n}", "values": [n, n + 1.5]} for n in range(int(size * 0.2) // 450)],
    }
def touch(state, share):
    "Overwrite this share of the arrays, page by page."
    for name in ("random", "ordered"):
        state[name][: int(len(state[name]) * share) : 512] += 1.0
"""

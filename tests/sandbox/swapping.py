"""A directory and a link that take each other's place all the time: what a check before an open never sees."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "of somebody else"


def prepare(place: Path) -> Path:
    """``top/inside/data.txt`` and, out of ``top``, the secret; returns ``top``."""
    top, outside = place / "top", place / "outside"
    (top / "inside").mkdir(parents=True)
    outside.mkdir()
    (top / "inside/data.txt").write_text("of its own")
    (outside / "data.txt").write_text(SECRET)
    (top / "link").symlink_to("../outside")
    return top


@contextlib.contextmanager
def swapped(top: Path) -> Iterator[None]:
    """While it lasts, ``inside`` and ``link`` swap names, and ``aside`` is one of them in between."""
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for old, new in (
                ("inside", "aside"),
                ("link", "inside"),
                ("inside", "link"),
                ("aside", "inside"),
            ):
                os.rename(top / old, top / new)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

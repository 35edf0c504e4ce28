"""Where the time goes, for figures that miss their bar: ``--profile NAME``."""

from benchmarks.profiles import cells, guest, start  # noqa: F401 — they register themselves

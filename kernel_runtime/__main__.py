"""``python -m kernel_runtime``: the command line."""

from __future__ import annotations

from kernel_runtime.cli import main

if __name__ == "__main__":
    main()

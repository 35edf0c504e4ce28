"""``python -m kernel_runtime``: the command line."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # what lies in the current directory is not the host's to import

from kernel_runtime.cli import main

if __name__ == "__main__":
    main()

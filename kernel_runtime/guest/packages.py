"""What pip has installed in a guest: it goes to a directory of the guest's own, the last that imports look in."""

from __future__ import annotations

import os
import sys
from importlib import machinery


def import_installed() -> None:
    """Look for modules where pip is told to put them (``PIP_TARGET``), also when that is made later."""
    target = os.environ.get("PIP_TARGET")
    if not target or target in sys.path:
        return
    sys.path.append(target)
    # One for a directory that is not there yet; Python's own hook would find none, and remember that.
    sys.path_importer_cache[target] = machinery.FileFinder(
        target,
        (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
        (machinery.SourceFileLoader, machinery.SOURCE_SUFFIXES),
        (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
    )

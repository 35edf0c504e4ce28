"""Where the host's files may be reached at all: roots, and what is kept from every guest whatever is granted."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from kernel_runtime.broker.places import SYSTEM, user_file
from kernel_runtime.domain.errors import CapabilityDenied, Invalid
from kernel_runtime.sandbox import beneath, trees

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

#: The kernel's and the processes' own: what is a file there is none.
_PSEUDO = ("/proc", "/sys", "/dev")
#: A project's policy lies in it: who writes there grants.
_POLICY_DIRECTORY = ".kernel-runtime"


def own_places(environment: Mapping[str, str], state: Path) -> list[str]:
    """Directories to be kept from every guest: the state, and where policies and databases are named."""
    return [str(state), str(user_file(environment).parent), str(SYSTEM.parent)]


class Roots:
    """``roots``: directories (links in *these* paths are the operator's, and followed); below them no link is.
    ``kept``: directories of kernel_runtime's own (state, policies, keys)."""

    def __init__(self, roots: Iterable[str] = ("/",), kept: Iterable[str] = ()) -> None:
        self._real = {root.rstrip("/"): os.path.realpath(root).rstrip("/") for root in roots}
        self._kept = tuple(os.path.realpath(path) for path in (*kept, *_PSEUDO))
        self._trees: dict[str, int] = {}
        self._lock = threading.Lock()

    def apart(self, path: str) -> tuple[str, str]:
        """The root that a path is below, and the rest; ``CapabilityDenied`` where nobody gets to."""
        found = [root for root in self._real if path == root or path.startswith(f"{root}/")]
        if not found:
            there = ", ".join(root or "/" for root in self._real) or "none"
            raise CapabilityDenied(f"{path}: files are handed out below {there} only")
        root = max(found, key=len)
        rest = path[len(root) + 1 :]
        self._refuse_kept(f"{self._real[root]}/{rest}", path)
        return root, rest

    def _refuse_kept(self, real: str, path: str) -> None:
        """No link is followed below a root, so the path says where it leads."""
        kept = any(real == place or real.startswith(f"{place}/") for place in self._kept)
        if kept or _POLICY_DIRECTORY in real.split("/"):
            raise CapabilityDenied(f"{path}: it is the host's own and never handed out, whatever is granted")

    @contextlib.contextmanager
    def opened(self, root: str) -> Iterator[int]:
        """The root as it is now."""
        fd = os.open(self._real[root] or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    def read_only(self, root: str) -> int:
        """The root and what was mounted below it when it was first asked for, read-only. ``Invalid`` where this host
        refuses such a view: a descriptor from elsewhere is not handed out."""
        with self._lock:
            if root not in self._trees:
                try:
                    self._trees[root] = trees.read_only(self._real[root] or "/")
                except (OSError, NotImplementedError) as error:
                    raise Invalid(
                        f"this host hands out no descriptors of its files ({error}); `read` them instead"
                    ) from None
            return self._trees[root]

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            while self._trees:
                os.close(self._trees.popitem()[1])


def check_regular(fd: int) -> None:
    """A file of /proc or /sys may be mounted anywhere: it is no file wherever it is found."""
    pseudo = {os.stat(place).st_dev for place in ("/proc", "/sys") if os.path.isdir(place)}
    if os.fstat(fd).st_dev in pseudo:
        raise beneath.NotRegular("it is the kernel's own")

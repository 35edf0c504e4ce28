"""A group on its way into a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kernel_runtime.domain.checkpoint import Group

if TYPE_CHECKING:
    from kernel_runtime.domain.checkpoint import Part


@dataclass
class Draft:
    """A group whose stream has been sent; ``parts`` is complete when its buffers have been, too.

    ``refers``, ``doubtful`` and ``rebuilds`` are what its pickler met.
    """

    names: list[str]
    stream: Part
    buffers: list[memoryview]
    packages: dict[str, str]
    refers: bool
    doubtful: bool = False
    rebuilds: bool = False
    parts: list[Part] = field(default_factory=list)

    def group(self, number: int) -> Group:
        return Group(number=number, names=self.names, parts=self.parts, packages=self.packages)

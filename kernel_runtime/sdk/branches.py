"""Hooks of notebook code around snapshots: close what no copy can have, open it again.

    from kernel_runtime.sdk.branches import after_restore, after_snapshot, before_snapshot

    @before_snapshot
    def close(): connection.close()

    @after_snapshot      # in the line that goes on
    @after_restore       # in a copy that came back
    def connect(): ...

``before_snapshot`` hooks run before each copy is made (also the automatic ones before cells): an
error in one means that there is no copy. An error in the others is printed and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Hook = TypeVar("Hook", bound=Callable[[], object])

before: list[Callable[[], object]] = []
after: list[Callable[[], object]] = []
restored: list[Callable[[], object]] = []


def before_snapshot(hook: Hook) -> Hook:
    """Run ``hook()`` in the live branch right before a copy of it is made."""
    return _add(before, hook)


def after_snapshot(hook: Hook) -> Hook:
    """Run ``hook()`` in the live branch when the copy is made and it goes on."""
    return _add(after, hook)


def after_restore(hook: Hook) -> Hook:
    """Run ``hook()`` in a copy that has become the live branch."""
    return _add(restored, hook)


def _add(hooks: list[Callable[[], object]], hook: Hook) -> Hook:
    """Once each: a cell that is run again defines its hook again, and the new one takes its place."""
    name = getattr(hook, "__qualname__", "")
    hooks[:] = [known for known in hooks if getattr(known, "__qualname__", None) != name or not name]
    hooks.append(hook)
    return hook

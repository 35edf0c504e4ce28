"""Loading: a fresh branch unpickles what the host sends; the only place where that happens.

Group 0 is what the notebook had defined; before it come groups that need nothing of it, and after it the
others, in an order in which they could be loaded when they were saved. A group that fails is told by the
names of its variables, and the others go on. Names are set on the way, for what is unpickled later looks at
them; where the host stops before the end, they are what they were. Large buffers are mapped from a descriptor: they are copied page
by page when they are written.
"""

from __future__ import annotations

import mmap
import os
import pickle
import platform
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire
from kernel_runtime.domain.amounts import show_bytes
from kernel_runtime.domain.checkpoint import About, misfits
from kernel_runtime.guest.checkpoint_definitions import Restoring, restore_into
from kernel_runtime.guest.checkpoint_memory import Mapped
from kernel_runtime.guest.checkpoint_pickler import version_of
from kernel_runtime.sdk import checkpoint as checkpoint_hooks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.guest.channel import Channel

_MAX_REASON = 1900


def load(channel: Channel, namespace: dict[str, Any]) -> None:
    """Serve one ``Load`` order of the host over ``channel``: variables appear in ``namespace``."""
    order = channel.receive()
    if not isinstance(order, wire.Load):
        raise EOFError("the host went away")
    arena = channel.take_fds(1)[0] if order.arena else -1
    try:
        reasons = _misfits(order)
        if reasons and not order.force:
            channel.send(wire.Unfit(reasons=[reason[:_MAX_REASON] for reason in reasons]))
            return
        with _all_or_nothing(namespace), _all_or_nothing(checkpoint_hooks.recipes):
            _Load(channel, namespace, arena).run(order.groups)
            channel.send(wire.LoadEnded())
    finally:
        if arena >= 0:
            os.close(arena)


@contextmanager
def _all_or_nothing(names: dict[Any, Any]) -> Iterator[None]:
    """Names that are set within are what they were, if it does not come to its end."""
    before = dict(names)
    try:
        yield
    except BaseException:
        for name in names.keys() - before.keys():
            del names[name]
        names.update(before)
        raise


def _misfits(order: wire.Load) -> list[str]:
    here = {name: version for name in order.packages if (version := _version(name)) is not None}
    return misfits(About(python=order.python, packages=order.packages), platform.python_version(), here)


def _version(package: str) -> str | None:
    """Its version, importing it: its types are about to be needed."""
    try:
        __import__(package)
    except ImportError:
        return None
    return version_of(package)


class _Load:
    def __init__(self, channel: Channel, namespace: dict[str, Any], arena: int) -> None:
        self._channel = channel
        self._namespace = namespace
        self._arena = arena
        restore_into(namespace)

    def run(self, groups: int) -> None:
        loaded: list[str] = []
        failed: dict[str, str] = {}
        for _ in range(groups):
            group = self._receive(wire.LoadGroup)
            parts = self._parts(group.parts)
            Restoring.names = group.names
            try:
                values = self._unpickle(group.number, parts)
            except Exception as error:  # noqa: BLE001 — user code runs in it
                reason = f"{type(error).__name__}: {error}"[:_MAX_REASON]
                failed.update(dict.fromkeys(group.names, reason))
                if group.number == 0:
                    Restoring.trouble = reason
                continue
            kept = {name: values[name] for name in group.names if name in values}
            self._namespace.update(kept)
            loaded += kept
        for name, reason in failed.items():
            self._channel.send(wire.NotLoaded(name=name, reason=reason))
        self._channel.send(wire.Loaded(names=loaded))

    def _unpickle(self, number: int, parts: list[Any]) -> dict[str, Any]:
        stream, *buffers = parts
        values: dict[str, Any] = pickle.loads(stream, buffers=buffers)  # noqa: S301 — in the guest, its own
        if number > 0:
            return values
        Restoring.definitions = values["definitions"]
        checkpoint_hooks.recipes.update(values["recipes"])
        variables: dict[str, Any] = values["variables"]
        return variables

    # -- parts ---------------------------------------------------------------------------------

    def _parts(self, spots: list[wire.Spot]) -> list[Any]:
        rest = bytearray()
        wanted = sum(spot.size for spot in spots if spot.offset < 0)
        while len(rest) < wanted:
            rest += self._receive(wire.Piece).data
        view, place, parts = memoryview(rest), 0, []
        for spot in spots:
            if spot.offset >= 0:
                parts.append(self._map(spot))
            else:
                parts.append(_own(view[place : place + spot.size], spot.readonly))
                place += spot.size
        return parts

    def _map(self, spot: wire.Spot) -> Any:
        """The guest's own copy of a buffer, made page by page as it writes."""
        flags, prot = mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
        try:
            mapped = Mapped(self._arena, spot.size, flags=flags, prot=prot, offset=spot.offset)
        except OSError:
            raise MemoryError(
                f"there is no room for {show_bytes(spot.size)} beside what this guest holds; delete some of it, bring "
                "some of the variables back by name, or restore in a guest with a larger limit (memory=…)"
            ) from None
        return memoryview(mapped).toreadonly() if spot.readonly else mapped

    def _receive(self, kind: type[Any]) -> Any:
        frame = self._channel.receive()
        if not isinstance(frame, kind):
            raise EOFError("the host went away")
        return frame


def _own(data: memoryview, readonly: bool) -> bytes | bytearray:
    """A small part for itself: what it is cut from can then go."""
    return bytes(data) if readonly else bytearray(data)

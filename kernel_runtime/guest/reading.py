"""What a frozen branch tells of its state: computed in a child of it, so that it stays as it was.

The code of the notebook that runs meanwhile (``__repr__``, an expression) can change nothing that
comes back, and is killed when it takes too long.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.variables import (
    MAX_DETAILS,
    MAX_NAME,
    MAX_PARTS,
    MAX_SHARES,
    MAX_VARIABLES,
    Part,
    Span,
    Variable,
)
from kernel_runtime.guest import files, gates
from kernel_runtime.guest.digests import Folding, has_address, type_name
from kernel_runtime.guest.leaves import Leaves, details_of, leaves_of
from kernel_runtime.guest.scores import OOM_SCORE_LIVE, set_oom_score
from kernel_runtime.guest.texts import short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

#: Seconds for one variable, for all of a listing (the rest is only named), and for a whole answer: then the child is killed.
VARIABLE_SECONDS, LISTING_SECONDS, ANSWER_SECONDS = 4.0, 8.0, 12.0
_CHUNK = 1 << 16


class Reader:
    """Answers ``Read`` orders about a namespace. ``hidden``: the shell's own names in it; ``workdir``: where the guest
    began to work; ``lift`` takes away what is no part of the state."""

    def __init__(
        self, namespace: dict[str, Any], hidden: dict[str, Any], workdir: str, lift: Callable[[], None]
    ) -> None:
        self._namespace = namespace
        self._hidden = hidden
        self._lift = lift
        self._kinds: dict[str, Callable[[bytes], object]] = {
            "variables": lambda _: list(self._variables()),
            "parts": lambda body: self._parts(msgspec.json.decode(body, type=list[Span])),
            "files": lambda body: files.written_since(float(body), workdir),
            "stack": gates.read_stack,
            "evaluate": gates.read_value,
        }

    def answer(self, order: wire.Read, made: float) -> wire.Told:
        """In the frozen branch, made at ``made``: have a child compute it, and pass its words on."""
        if order.what == "files":
            order = wire.Read(what="files", arguments=repr(made).encode())
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            self._tell(order, write)
        os.close(write)
        try:
            data = _gather(read, time.monotonic() + ANSWER_SECONDS)
        finally:
            os.close(read)
            _bury(pid)
        if data is None:
            return wire.Told(error=f"it took longer than {ANSWER_SECONDS:g} s")
        return wire.Told(data=data) if data else wire.Told(error="the process that was to read it was ended")

    def _tell(self, order: wire.Read, write: int) -> None:
        """In the child."""
        status = 1
        try:
            os.setpgid(0, 0)
            set_oom_score(max(OOM_SCORE_LIVE, 1000))
            sys.setrecursionlimit(max(sys.getrecursionlimit(), 3000))
            self._lift()
            data = msgspec.json.encode(self._kinds[order.what](order.arguments))
            with open(write, "wb") as file:
                file.write(data[: wire.MAX_TOLD + 1])
            status = 0
        except BaseException:  # noqa: BLE001 - the answer is that there is none
            status = 1
        finally:
            os._exit(status)

    def _variables(self) -> Iterator[Variable]:
        own = dict(self._own())
        owners = _owners(own)
        until = time.monotonic() + LISTING_SECONDS
        for name in sorted(own)[:MAX_VARIABLES]:
            yield describe(name, own[name], owners, until - time.monotonic())

    def _own(self) -> Iterator[tuple[str, Any]]:
        for name, value in list(self._namespace.items()):
            own = not (name in self._hidden and self._hidden[name] is value)
            if own and is_shown(name, value):
                yield name, value

    def _parts(self, spans: list[Span]) -> list[list[Part]]:
        return [_parts_of(self._namespace.get(span.name), span) for span in spans[:MAX_PARTS]]


def is_shown(name: Any, value: Any) -> bool:
    """Whether it is a variable of the notebook: no module, nothing that a library defines."""
    if not isinstance(name, str) or name.startswith("_") or len(name) > MAX_NAME:
        return False
    if isinstance(value, type(sys)):
        return False
    if isinstance(value, type) or hasattr(value, "__code__") or type(value).__name__.startswith("builtin"):
        return getattr(value, "__module__", None) == "__main__"
    return True


def _owners(own: dict[str, Any]) -> dict[int, list[str]]:
    """Names by the ids of their objects, of those that can change."""
    found: dict[int, list[str]] = {}
    for name, value in own.items():
        kind: Any = type(value)
        changes = kind.__hash__ in (None, object.__hash__) or str(kind.__module__).startswith("pandas")
        if changes and not callable(value):
            found.setdefault(id(value), []).append(name)
    return found


def _shares(name: str, value: Any, met: set[str], owners: Mapping[int, Sequence[str]]) -> list[str]:
    """Whose objects it holds; of names for one object only the later ones tell."""
    alike = owners.get(id(value), ())
    return sorted(each for each in met if each < name or each not in alike)[:MAX_SHARES]


def describe(name: str, value: Any, owners: Mapping[int, Sequence[str]], left: float) -> Variable:
    """One variable, as far as it can be told in time. ``left``: seconds for it and those after it."""
    kind = _kind(value)
    try:
        with _time_limit(min(VARIABLE_SECONDS, left)):
            leaves, folding = leaves_of(value), Folding(owners)
            return Variable(
                name=name,
                type=kind,
                shape=_shape(value)[:MAX_NAME],
                size=_size(value),
                digest=folding.fold(value),
                unread=folding.unread[:MAX_NAME],
                shares=_shares(name, value, folding.met, owners),
                preview=_preview(value),
                leaves=leaves.count,
                keyed=leaves.keyed,
                lines=leaves.lines,
                details=_details(value),
            )
    except _TookTooLong:
        unread = f"it took longer than {VARIABLE_SECONDS:g} s"
        if left < VARIABLE_SECONDS:
            unread = f"the {LISTING_SECONDS:g} s for all variables were over"
    except Exception as error:  # noqa: BLE001 - an object of the notebook that cannot be looked at
        unread = short(error)
    return Variable(name=name, type=kind, unread=unread)


def _kind(value: Any) -> str:
    """The type, and of an array what its elements are."""
    full = type_name(value)
    elements = getattr(value, "dtype", None) if full.startswith(("numpy.", "pandas.")) else None
    return (full if elements is None or not value.ndim else f"{full}[{elements}]")[:MAX_NAME]


def _details(value: Any) -> dict[str, str]:
    found = list(details_of(value).items())[:MAX_DETAILS]
    return {label[:MAX_NAME]: text for label, text in found}


def _shape(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return "×".join(str(int(part)) for part in shape)
    if isinstance(value, (str, bytes, bytearray, list, tuple, dict, set, frozenset, deque)):
        return f"of {len(value)}"
    return ""


def _size(value: Any) -> int:
    usage = getattr(value, "memory_usage", None)
    if callable(usage) and type(value).__module__.startswith("pandas"):
        used = usage(deep=False)
        return int(used.sum() if hasattr(used, "sum") else used)
    held = getattr(value, "nbytes", None)
    return int(held) if isinstance(held, int) else sys.getsizeof(value)


def _preview(value: Any) -> str:
    """What one look takes in: nothing of what is large, or has only its address to show."""
    is_large = bool(getattr(value, "shape", ())) or isinstance(value, (list, tuple, dict, set, frozenset))
    is_code = isinstance(value, type) or hasattr(value, "__code__")
    text = "" if is_large or is_code else short(value)
    return "" if has_address(text) else text


def _parts_of(value: Any, span: Span) -> list[Part]:
    leaves, above = leaves_of(value), [value]
    for place in span.path:
        above.append(leaves.item(place))
        leaves = leaves_of(above[-1])
    step = max(1, span.step)
    stop = min(span.stop, leaves.count)
    parts = []
    for start in range(max(0, span.start), stop, step)[:MAX_PARTS]:
        end = min(start + step, stop)
        part = Part(start=start, stop=end, digest=leaves.digest(start, end))
        parts.append(_alone(part, leaves, above) if step == 1 else part)
    return parts


def _alone(part: Part, leaves: Leaves, above: Sequence[Any]) -> Part:
    """With what is told of one place; what it is in is not looked into once more."""
    told = msgspec.structs.replace(
        part, label=leaves.label(part.start)[:MAX_NAME], text=leaves.text(part.start)
    )
    try:
        item = leaves.item(part.start)
    except LookupError:
        return told
    told = msgspec.structs.replace(told, type=_kind(item))
    if any(item is each for each in above):
        return told
    inner = leaves_of(item)
    return msgspec.structs.replace(told, leaves=inner.count, keyed=inner.keyed, lines=inner.lines)


class _TookTooLong(BaseException):
    """No ``Exception``: the notebook's code must not take it for one of its own."""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def strike(number: int, frame: FrameType | None) -> None:
        raise _TookTooLong

    if seconds <= 0:
        raise _TookTooLong
    signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _gather(fd: int, deadline: float) -> bytes | None:
    """All that comes before the end; None when it does not come in time, or is too much."""
    data = bytearray()
    while (left := deadline - time.monotonic()) > 0 and select.select([fd], [], [], left)[0]:
        piece = os.read(fd, _CHUNK)
        if not piece:
            return bytes(data)
        data += piece
        if len(data) > wire.MAX_TOLD:
            return None
    return None


def _bury(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)

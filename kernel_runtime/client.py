"""The public Python API: run code in a sandboxed guest from any Python program.

    with kernel_runtime.Session(memory="512M") as session:
        session.run("x = 1 + 1")
        session.value("x")  # 2

``AsyncSession`` is the same with ``await``. Values cross the wall in safe formats only (JSON
values, bytes, numpy arrays, pandas and Arrow tables); nothing from a guest is ever unpickled.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import itertools
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.amounts import show_bytes
from kernel_runtime.domain.errors import Conflict, GuestCodeError, GuestLost, LimitExceeded, ProtocolViolation
from kernel_runtime.domain.level import Level, parse_level
from kernel_runtime.domain.limits import Limits, parse_limits
from kernel_runtime.domain.verdict import Verdict
from kernel_runtime.runtime import Runtime, default_settings
from kernel_runtime.workers.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from kernel_runtime.workers import session as sessions
    from kernel_runtime.workers.meter import Usage

Output = dict[str, Any]
_SHOWN = ("display_data", "execute_result", "update_display_data", "clear_output")
#: What an output takes besides its content; an error is part of no limit, so its lines are counted.
_OVERHEAD, _MAX_LINES = 600, 1000
_request_numbers = itertools.count(1)


class Result(msgspec.Struct, kw_only=True):
    """What a run left behind.

    ``outputs`` are dicts in the form of a notebook's outputs (``output_type`` stream,
    display_data, execute_result or error), in order. ``error`` is the exception that ended the
    code, ``verdict`` why the guest ended or was interrupted; both None when all went well.
    """

    outputs: list[Output] = []
    error: GuestCodeError | None = None
    verdict: Verdict | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.error is None and self.verdict is None

    def text(self, name: str = "stdout") -> str:
        """All text of a stream: ``stdout`` or ``stderr``."""
        return "".join(o["text"] for o in self.outputs if o["output_type"] == "stream" and o["name"] == name)

    @property
    def stdout(self) -> str:
        return self.text("stdout")

    @property
    def stderr(self) -> str:
        return self.text("stderr")

    @property
    def result(self) -> str | None:
        """The text of the last expression's value, as a notebook would show it."""
        texts = [o["data"].get("text/plain") for o in self.outputs if o["output_type"] == "execute_result"]
        return texts[-1] if texts and isinstance(texts[-1], str) else None

    def check(self) -> Result:
        """Itself; or raises what went wrong (``GuestCodeError``, ``LimitExceeded``, ``GuestLost``)."""
        if self.verdict is not None:
            raise LimitExceeded(self.verdict) if self.verdict.is_limit else GuestLost(self.verdict)
        if self.error is not None:
            raise self.error
        return self


class AsyncSession:
    """A guest of your own, kept until it is closed. Give limits as text or numbers:
    ``memory="512M"``, ``wall="30s"``, ``cpu="10s"``, ``pids=32``, ``disk="64M"``, ``output="1M"``.

    ``workdir``: the directory the guest may read (default: the current one; None: none; never
    your home directory). Raises ``Invalid`` for malformed amounts, ``WallUnavailable`` with the
    fix when this host cannot build the walls of ``level``.
    """

    def __init__(
        self,
        *,
        level: Level | str = Level.MODERATE,
        workdir: str | os.PathLike[str] | None = "",
        limits: Limits | None = None,
        name: str = "",
        **amounts: object,
    ) -> None:
        self.level = parse_level(level)
        self.limits = parse_limits(amounts, limits, place="Session") if amounts else limits or Limits()
        self.name = name
        self._workdir = os.getcwd() if workdir == "" else None if workdir is None else os.fspath(workdir)
        self._session: sessions.Session | None = None
        self._runtime: Runtime | None = None

    async def __aenter__(self) -> AsyncSession:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Start the guest and wait until it takes code."""
        runtime = self._runtime = _runtime(self._workdir)
        if self._session is None:
            self._session = runtime.open_session(limits=self.limits, level=self.level, name=self.name)
        try:
            await self._session.ready()
            runtime.warm_up()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the guest; its variables and files are gone."""
        session, self._session = self._session, None
        if session is not None and self._runtime is not None:
            await self._runtime.close_session(session)

    @property
    def _open(self) -> sessions.Session:
        if self._session is None:
            raise Conflict("the session is not open; use it in a `with` block or call open()")
        return self._session

    @property
    def walls(self) -> list[str]:
        """The walls that stand around the guest, by name."""
        return self._open.walls

    async def run(
        self,
        code: str,
        *,
        check: bool = True,
        on_output: Callable[[Output], None] | None = None,
        on_input: Callable[[str, bool], str | None] | None = None,
    ) -> Result:
        """Run code; outputs are collected and, as they come, given to ``on_output``.

        ``on_input(prompt, password)`` answers ``input()``; without it ``input()`` raises in the
        guest. ``check``: raise what went wrong instead of returning it in the ``Result``.
        """
        collector = _Collector(self._open, self.limits.output, on_output, on_input)
        begun = time.monotonic()
        verdict = await self._open.submit(
            _execute_request(code, allow_stdin=on_input is not None), collector.take
        )
        collector.settle()
        result = collector.result
        result.verdict = verdict
        result.seconds = time.monotonic() - begun
        return result.check() if check else result

    async def value(self, name: str) -> Any:
        """A variable of the guest, by value, in a safe format; ``Conflict`` names the type of
        one that has none, or the name of one that is not there."""
        from kernel_runtime.guest import values

        return values.decode(await self._open.get(name))

    async def put(self, name: str, value: Any) -> None:
        """Set a variable of the guest to a copy of ``value``."""
        from kernel_runtime.guest import values

        await self._open.put(name, values.encode(value))

    async def restart(self) -> None:
        """A fresh guest in milliseconds: variables and background work are gone."""
        await self._open.restart()

    def interrupt(self) -> None:
        """KeyboardInterrupt in the code that runs now."""
        self._open.interrupt()

    async def usage(self) -> Usage:
        """What the guest uses now, measured from outside."""
        return await self._open.usage()


class Session:
    """``AsyncSession`` for callers that cannot await: the same methods, blocking."""

    def __init__(
        self,
        *,
        level: Level | str = Level.MODERATE,
        workdir: str | os.PathLike[str] | None = "",
        limits: Limits | None = None,
        name: str = "",
        **amounts: object,
    ) -> None:
        self._session = AsyncSession(level=level, workdir=workdir, limits=limits, name=name, **amounts)
        self._portal = _portal()

    def __enter__(self) -> Session:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def limits(self) -> Limits:
        return self._session.limits

    @property
    def level(self) -> Level:
        return self._session.level

    @property
    def name(self) -> str:
        return self._session.name

    @property
    def walls(self) -> list[str]:
        """The walls that stand around the guest, by name."""
        return self._session.walls

    def open(self) -> None:
        """Start the guest and wait until it takes code."""
        self._portal.call(self._session.open())

    def close(self) -> None:
        """End the guest; its variables and files are gone."""
        self._portal.call(self._session.close())

    def run(
        self,
        code: str,
        *,
        check: bool = True,
        on_output: Callable[[Output], None] | None = None,
        on_input: Callable[[str, bool], str | None] | None = None,
    ) -> Result:
        """``AsyncSession.run``; Ctrl-C interrupts the guest. ``on_output`` is called in the
        portal's thread, ``on_input`` in a thread of its own."""
        running = self._session.run(code, check=check, on_output=on_output, on_input=on_input)
        return self._portal.call(running, on_interrupt=self._session.interrupt)

    def value(self, name: str) -> Any:
        """A variable of the guest, by value; see ``AsyncSession.value``."""
        return self._portal.call(self._session.value(name))

    def put(self, name: str, value: Any) -> None:
        """Set a variable of the guest to a copy of ``value``."""
        self._portal.call(self._session.put(name, value))

    def restart(self) -> None:
        """A fresh guest in milliseconds."""
        self._portal.call(self._session.restart())

    def interrupt(self) -> None:
        """KeyboardInterrupt in the code that runs now (from another thread)."""
        self._portal.call(_call_in_loop(self._session.interrupt))

    def usage(self) -> Usage:
        """What the guest uses now, measured from outside."""
        return self._portal.call(self._session.usage())


class _Collector:
    """Turns a run's frames into outputs."""

    def __init__(
        self,
        session: sessions.Session,
        limit: int,
        on_output: Callable[[Output], None] | None,
        on_input: Callable[[str, bool], str | None] | None,
    ) -> None:
        self.result = Result()
        self._session = session
        self._texts: list[str] = []
        self._left = limit
        self._notice = f"\n[kernel_runtime: the output limit of {show_bytes(limit)} is reached]\n"
        self._on_output = on_output
        self._on_input = on_input

    def take(self, frame: wire.FromBranch) -> None:
        if isinstance(frame, wire.Stream):
            if frame.name not in ("stdout", "stderr"):
                raise ProtocolViolation(f"no stream is called {frame.name[:80]!r}")
            self._admit({"output_type": "stream", "name": frame.name, "text": frame.text}, len(frame.text))
        elif isinstance(frame, wire.Publish):
            self._published(frame)
        elif isinstance(frame, wire.Ask):
            task = asyncio.get_running_loop().create_task(self._answer(frame))
            self._asking = task  # a task without a reference may be collected

    def _published(self, frame: wire.Publish) -> None:
        content = _decode(frame.content)
        if frame.kind == "error":
            content = {
                "ename": str(content.get("ename", "")),
                "evalue": str(content.get("evalue", "")),
                "traceback": _lines(content.get("traceback")),
            }
            first = self.result.error is None  # is shown whatever was printed before it
            self.result.error = GuestCodeError(**content)
            size = len(frame.content) + _OVERHEAD
            self._admit({"output_type": "error", **content}, size, always=first)
        elif frame.kind in _SHOWN:
            if frame.kind != "clear_output" and not isinstance(content.get("data"), dict):
                raise ProtocolViolation(f"a {frame.kind} without data")
            self._admit({**content, "output_type": frame.kind}, len(frame.content) + _OVERHEAD)

    def _admit(self, output: Output, size: int, always: bool = False) -> None:
        """What is within the limit; beyond it, one notice."""
        if always:
            self._add(output)
            return
        if self._left < 0:
            return
        self._left -= size
        if self._left < 0:
            output = {"output_type": "stream", "name": "stderr", "text": self._notice}
        self._add(output)

    def _add(self, output: Output) -> None:
        last = self.result.outputs[-1] if self.result.outputs else {}
        if output["output_type"] == "stream" == last.get("output_type") and last["name"] == output["name"]:
            self._texts.append(output["text"])
        else:
            self.settle()
            self.result.outputs.append(dict(output))
        if self._on_output is not None:
            self._on_output(output)

    def settle(self) -> None:
        """Put a stream's texts together, once: each for itself would be copied again and again."""
        if self._texts:
            last = self.result.outputs[-1]
            last["text"] = "".join((last["text"], *self._texts))
            self._texts.clear()

    async def _answer(self, frame: wire.Ask) -> None:
        text = None
        if self._on_input is not None:
            text = await asyncio.to_thread(self._on_input, frame.prompt, frame.password)
        self._session.answer(wire.Answer(id=frame.id, text=text))


def _lines(traceback: object) -> list[str]:
    return [str(line) for line in traceback[-_MAX_LINES:]] if isinstance(traceback, list) else []


def _decode(content: bytes) -> dict[str, Any]:
    """A guest's JSON, bounded first."""
    wire.check_json(content)
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolViolation(f"the guest's message is no JSON object: {error}") from None


def _execute_request(code: str, *, allow_stdin: bool) -> wire.Request:
    number = next(_request_numbers)
    content = {
        "code": code,
        "silent": False,
        "store_history": True,
        "user_expressions": {},
        "allow_stdin": allow_stdin,
        "stop_on_error": True,
    }
    return wire.Request(
        id=f"run-{number}", kind="execute_request", content=msgspec.json.encode(content), count=number
    )


async def _call_in_loop(call: Callable[[], None]) -> None:
    call()


@functools.cache
def _portal() -> Portal:
    """One portal for the process; its guests end with the process."""
    portal = Portal()
    atexit.register(_close_portal, portal)
    return portal


def _close_portal(portal: Portal) -> None:
    portal.call(_close_runtimes())
    portal.close()


_runtimes: dict[tuple[int, str | None], Runtime] = {}
_runtimes_lock = threading.Lock()


def _runtime(workdir: str | None) -> Runtime:
    """The runtime of this loop for a directory: sessions of one directory share a zygote."""
    settings = (
        default_settings(workdir)
        if workdir is not None
        else msgspec.structs.replace(default_settings(), workdir=None)
    )
    key = (id(asyncio.get_running_loop()), settings.workdir)
    with _runtimes_lock:
        if key not in _runtimes:
            _runtimes[key] = Runtime(settings)
        return _runtimes[key]


async def _close_runtimes() -> None:
    own = id(asyncio.get_running_loop())
    for key in [key for key in _runtimes if key[0] == own]:
        await _runtimes.pop(key).close()

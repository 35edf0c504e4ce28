"""The debugger as front ends know it from ipykernel, on DAP with the guest's pydevd.

The front keeps the state (started, stopped, breakpoints) and answers what needs no guest. The
guest answers the rest: DAP on a socket that works while its only thread is stopped, and a few
questions of Jupyter's own, as a request when its shell is idle and through DAP's ``evaluate``
while a cell runs (``guest/shell_debugger.py``). Nothing it says is run or evaluated here.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import re
import socket
import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import Conflict, GuestLost, KernelRuntimeError, ProtocolViolation
from kernel_runtime.jupyter.contents import Display, read_published
from kernel_runtime.jupyter.dap import Dap, Incoming
from kernel_runtime.jupyter.policy import admit
from kernel_runtime.workers.cancelled import being_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.domain.level import Level
    from kernel_runtime.jupyter.guest import Guest
    from kernel_runtime.jupyter.requests import Debug

    Body = dict[str, Any]

#: ipykernel's murmur2 seed: front ends compute a cell's file name from it.
HASH_SEED = 0xC70F6907
#: Events passed on. Not ``debugpyAttach``: a front end that obeyed it would connect to an
#: address of the guest's choice.
EVENTS = (
    *("breakpoint", "capabilities", "continued", "exited", "initialized", "invalidated", "loadedSource"),
    *("module", "output", "process", "stopped", "terminated", "thread"),
)
DISCONNECT_SECONDS = 5.0
#: Packages between the kernel and a cell: not shown in stacks, not stepped into.
INTERNAL = (
    *("IPython", "ipykernel", "traitlets", "tornado", "zmq", "jupyter_client", "jupyter_core", "comm"),
    *("kernel_runtime", "debugpy", "matplotlib_inline", "msgspec"),
)
_INSIDE = 'getattr(__import__("kernel_runtime.guest.shell_debugger", fromlist=["ask"]), {!r})'
#: What IPython itself puts into the namespace.
_HIDDEN = (
    *("__name__", "__doc__", "__package__", "__loader__", "__spec__", "__annotations__", "__builtins__"),
    *("__builtin__", "__display__", "get_ipython", "debugpy", "exit", "quit"),
    *("In", "Out", "_oh", "_dh", "_", "__", "___"),
)
_HISTORY = re.compile(r"_\d|_i")
_NAMES_OF_GROUPS = ("special variables", "function variables")


class Debugger:
    """One front's debugger; ``publish`` sends an event, ``is_running`` tells whether a cell runs."""

    def __init__(
        self, guest: Guest, level: Level, publish: Callable[[Body], None], is_running: Callable[[], bool]
    ) -> None:
        self._guest = guest
        self._level = level
        self._publish = publish
        self._is_running = is_running
        self._dap: Dap | None = None
        self._changing = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._breakpoints: dict[str, list[Body]] = {}
        self._stopped: set[int] = set()
        self._own: dict[str, Callable[[Body], Awaitable[Body]]] = {
            "debugInfo": self._info,
            "initialize": self._initialize,
            "attach": self._attach,
            "configurationDone": self._configuration_done,
            "disconnect": self._disconnect,
            "setBreakpoints": self._set_breakpoints,
            "dumpCell": lambda arguments: self._ask_guest("dumpCell", arguments),
            "source": lambda arguments: self._ask_guest("source", arguments),
            "modules": lambda arguments: self._ask_guest("modules", arguments),
            "inspectVariables": self._inspect,
            "variables": self._variables,
            "richInspectVariables": self._rich,
            "copyToGlobals": self._copy_to_globals,
        }

    async def answer(self, request: Debug) -> Body:
        """The content of ``debug_reply``, whatever happens."""
        reply: Body = {
            "type": "response",
            "seq": next(self._numbers),
            "request_seq": request.seq,
            "command": request.command,
            "success": False,
        }
        try:
            reply["body"] = await self._perform(request.command, request.arguments or {})
            reply["success"] = True
        except (KernelRuntimeError, OSError, asyncio.CancelledError) as error:
            if being_cancelled():
                raise  # the front ends; else a person interrupted the waiting for a guest
            reply |= {"message": str(error) or "interrupted", "body": {}}
        except Exception as error:  # noqa: BLE001 - a bug here must not leave a front end waiting
            traceback.print_exc()
            reply |= {"message": f"{type(error).__name__}: {error}", "body": {}}
        return reply

    async def _perform(self, command: str, arguments: Body) -> Body:
        if command in ("initialize", "attach", "disconnect"):
            async with self._changing:
                return await self._own[command](arguments)
        if command in self._own:
            return await self._own[command](arguments)
        return await self._forward(command, arguments)

    # -- life ----------------------------------------------------------------------------------

    async def _info(self, _: Body) -> Body:
        session = await self._guest.ready()
        return {
            "isStarted": self._dap is not None,
            "hashMethod": "Murmur2",
            "hashSeed": HASH_SEED,
            "tmpFilePrefix": str(session.info.get("cells", "")),
            "tmpFileSuffix": ".py",
            "breakpoints": [
                {"source": path, "breakpoints": them} for path, them in self._breakpoints.items()
            ],
            "stoppedThreads": sorted(self._stopped),
            "richRendering": True,
            "exceptionPaths": ["Python Exceptions"],
            "copyToGlobals": True,
        }

    async def _initialize(self, arguments: Body) -> Body:
        if self._dap is None:
            host, guest = socket.socketpair()
            with guest:
                try:
                    await self._request("start", {}, [guest.fileno()])
                except BaseException:
                    host.close()
                    raise
            self._dap = await Dap.over(host, self._on_event, self._on_closed)
        return await self._forward("initialize", arguments)

    async def _attach(self, arguments: Body) -> Body:
        """Attach and run: ipykernel's clients never send a ``configurationDone`` that counts."""
        own = {"justMyCode": False, "rules": [{"path": path, "include": False} for path in hidden_paths()]}
        body = await self._forward("attach", arguments | own)
        await self._forward("configurationDone", {})
        return body

    async def _configuration_done(self, _: Body) -> Body:
        return {}

    async def _disconnect(self, arguments: Body) -> Body:
        dap = self._dap
        if dap is not None:
            try:
                asked = dap.ask("disconnect", arguments | {"terminateDebuggee": False})
                await asyncio.wait_for(asked, DISCONNECT_SECONDS)
            finally:
                self._forget()
                dap.close()
                # Not waited for: a cell may still run, and its thread does the cleaning up.
                self._stopping = asyncio.ensure_future(self._stop())
        return {}

    async def _stop(self) -> None:
        try:
            await self._request("stop", {})
        except (KernelRuntimeError, OSError, asyncio.CancelledError):
            pass  # the guest has ended, and pydevd with it

    def _forget(self) -> None:
        self._dap = None
        self._breakpoints = {}
        self._hold(set())

    def _hold(self, stopped: set[int]) -> None:
        """Remember what is stopped; the wall limit's clock stands still meanwhile."""
        self._stopped = stopped
        if self._guest.session is not None:
            self._guest.session.hold_wall(bool(stopped))

    def _on_closed(self, dap: Dap) -> None:
        """The guest ended or hung up: tell the front ends, so that they let go of the stopped cell."""
        if dap is not self._dap:
            return
        stopped = self._stopped
        self._forget()
        for thread in stopped:
            self._emit("continued", {"threadId": thread, "allThreadsContinued": True})
        self._emit("terminated", {})

    # -- DAP -----------------------------------------------------------------------------------

    def _emit(self, event: str, body: Any) -> None:
        self._publish({"type": "event", "seq": next(self._numbers), "event": event, "body": body})

    def _on_event(self, message: Incoming) -> None:
        thread = message.get("threadId")
        if message.event == "stopped" and isinstance(thread, int):
            self._hold(self._stopped | {thread})
        elif message.event == "continued":
            everything = message.get("allThreadsContinued") is not False
            self._hold(set() if everything else self._stopped - {thread})
        if message.event in EVENTS:
            self._emit(message.event, message.body)

    async def _forward(self, command: str, arguments: Body) -> Body:
        """A request for pydevd as it is; what the response says failed is raised."""
        if self._dap is None:
            raise Conflict("the debugger has not been started: send initialize and attach first")
        response = await self._dap.ask(command, arguments)
        if not response.success:
            raise Conflict(response.message or f"{command} failed")
        return response.body if isinstance(response.body, dict) else {}

    async def _set_breakpoints(self, arguments: Body) -> Body:
        body = await self._forward("setBreakpoints", arguments)
        source = arguments.get("source")
        path = source.get("path") if isinstance(source, dict) else None
        found = body.get("breakpoints")
        if isinstance(path, str) and isinstance(found, list):
            # where pydevd has put them, which need not be where they were asked for
            lines = [each.get("line") for each in found if isinstance(each, dict)]
            self._breakpoints[path] = [{"line": line} for line in lines if isinstance(line, int)]
        return body

    async def _copy_to_globals(self, arguments: Body) -> Body:
        names = [arguments.get("srcVariableName"), arguments.get("dstVariableName")]
        if not all(isinstance(name, str) and name.isidentifier() for name in names):
            raise Conflict("dstVariableName and srcVariableName must be valid identifiers")
        return await self._forward(
            "setExpression",
            {
                "expression": f"globals()[{names[1]!r}]",
                "value": names[0],
                "frameId": arguments.get("srcFrameId"),
            },
        )

    # -- what DAP has no word for ----------------------------------------------------------------

    async def _inspect(self, arguments: Body) -> Body:
        return _without_hidden(await self._ask_guest("inspectVariables", arguments))

    async def _variables(self, arguments: Body) -> Body:
        if self._stopped:
            return _without_hidden(await self._forward("variables", arguments))
        return _without_hidden(await self._ask_guest("variables", arguments))

    async def _rich(self, arguments: Body) -> Body:
        """How a variable is displayed, as the level lets displays pass."""
        name = arguments.get("variableName")
        if not isinstance(name, str) or not name.isidentifier():
            if name in _NAMES_OF_GROUPS:
                return {"data": {}, "metadata": {}}
            raise Conflict(f"{name!r} is no variable's name")
        if self._stopped:
            expression = f"{_INSIDE.format('rich')}({name})"
            body = await self._evaluate(expression, frameId=arguments.get("frameId"))
        else:
            body = await self._ask_guest("richInspectVariables", arguments)
        content = admit(
            "display_data", read_published("display_data", msgspec.json.encode(body)), self._level
        )
        if not isinstance(content, Display):
            return {"data": {}, "metadata": {}}
        metadata = {mime: extra for mime, extra in content.metadata.items() if mime in content.data}
        return {"data": content.data, "metadata": metadata}

    async def _ask_guest(self, command: str, arguments: Body) -> Body:
        """By the shell, in its turn; while a cell runs under the debugger by pydevd, at once."""
        if self._dap is None or not self._is_running():
            return await self._request(command, arguments)
        request = msgspec.json.encode({"command": command, "arguments": arguments}).decode()
        return await self._evaluate(f"{_INSIDE.format('ask')}({request!r})")

    async def _evaluate(self, expression: str, **where: Any) -> Body:
        body = await self._forward("evaluate", {"expression": expression, "context": "clipboard", **where})
        return _body_of(str(body.get("result", "")).encode())

    async def _request(self, command: str, arguments: Body, fds: list[int] | None = None) -> Body:
        session = await self._guest.ready()
        replies: list[bytes] = []
        request = wire.Request(
            id=f"debug-{os.urandom(6).hex()}",
            kind="debug_request",
            content=msgspec.json.encode({"command": command, "arguments": arguments}),
        )
        verdict = await session.submit(
            request,
            lambda frame: replies.append(frame.content) if isinstance(frame, wire.Reply) else None,
            fds,
        )
        if verdict is not None:
            raise GuestLost(verdict)
        return _body_of(replies[0] if replies else b"")


def hidden_paths() -> list[str]:
    """Directories of the standard library and of the packages between kernel and cell."""
    specs = (importlib.util.find_spec(name) for name in INTERNAL)
    internal = [str(Path(spec.origin).parent) for spec in specs if spec is not None and spec.origin]
    return [sysconfig.get_path("stdlib"), *internal]


class _Answer(msgspec.Struct):
    success: bool = False
    body: dict[str, Any] = {}
    message: str = "the guest gave no answer"


_answers = msgspec.json.Decoder(_Answer)


def _body_of(data: bytes) -> Body:
    """The body of an answer of ``guest/shell_debugger.py``; raises what it says went wrong."""
    try:
        wire.check_json(data)
        answer = _answers.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolViolation(f"the guest's answer is malformed: {error}") from None
    if not answer.success:
        raise Conflict(answer.message)
    return answer.body


def _without_hidden(body: Body) -> Body:
    """Variables without what IPython itself puts into the namespace."""
    found = body.get("variables")
    if not isinstance(found, list):
        raise ProtocolViolation("a variables response without variables")
    return body | {
        "variables": [each for each in found if isinstance(each, dict) and _is_shown(each.get("name"))]
    }


def _is_shown(name: object) -> bool:
    return isinstance(name, str) and name not in _HIDDEN and not _HISTORY.match(name)

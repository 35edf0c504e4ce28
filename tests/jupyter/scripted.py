"""A kernel whose guest is a script: each line of a cell is a command. Run it as a file.

``say TEXT`` · ``err TEXT`` · ``lines N`` · ``flood N BYTES`` · ``displays N`` · ``sleep S`` · ``die REASON`` · ``crash`` · ``raise`` ·
``ask PROMPT`` · ``asks SCOPE`` · ``asks_in_vain SCOPE`` · ``press``, on the card, as a guest that knows all its ids · ``answered`` · ``publish KIND JSON`` · ``reply JSON`` · ``payload JSON`` · ``late TEXT``, said when another cell does ``release`` · ``number``

With ``$SCRIPTED_START`` it is ready once there is a file of that name.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire
from kernel_runtime.broker.commons import Commons
from kernel_runtime.broker.flow import as_it_goes
from kernel_runtime.domain.checkpoint import About, Checkpoint
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.domain.errors import (
    CapabilityDenied,
    NotFound,
    ProtocolViolation,
    StorageFailed,
    WallUnavailable,
)
from kernel_runtime.domain.verdict import Reason, Verdict
from kernel_runtime.jupyter.kernel import broker_of, main
from kernel_runtime.workers.meter import Usage

try:
    from tests.jupyter.persons import asked, person, spoofs
    from tests.jupyter.scripted_state import ScriptedSnapshots, ScriptedStops, differing
except ImportError:  # run as a file, its own directory is what is searched
    from persons import asked, person, spoofs
    from scripted_state import ScriptedSnapshots, ScriptedStops, differing

if TYPE_CHECKING:
    from kernel_runtime.jupyter.settings import Settings


class Raised(Exception):
    pass


class Died(Exception):
    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict


class ScriptedSession:
    """Obeys the part of the session's interface that the front uses."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._broker: Any = None
        self.execution_count = 0
        self.walls = ["user", "mount"]
        self.missing: dict[str, str] = {}
        self.partial: dict[str, str] = {}
        self.info: dict[str, object] = {}
        self.snapshots = ScriptedSnapshots(os.environ.get("SCRIPTED_SNAPSHOTS", ""))
        self.stops = ScriptedStops()
        self._stray: Any = None
        self._answers: asyncio.Queue[str | None] = asyncio.Queue()
        self._asked: list[asyncio.Future[Any]] = []
        self._task: asyncio.Task[Any] | None = None
        self._late: list[wire.Stream] = []
        self.paused = self.executing = False
        self.partial: dict[str, str] = {}
        self._start = asyncio.get_running_loop().create_task(self._started())

    async def _started(self) -> None:
        awaited = os.environ.get("SCRIPTED_START")
        while awaited and not os.path.exists(awaited):
            await asyncio.sleep(0.01)

    def broker(self) -> Any:
        """The real one."""
        if self._broker is None:
            self._broker = broker_of(self._settings, Disclosed(), Commons(), time.time(), as_it_goes)
        return self._broker

    @property
    def is_ready(self) -> bool:
        return self._start.done()

    async def ready(self) -> object:
        if os.environ.get("SCRIPTED_NO_WALL"):
            raise WallUnavailable("user", "not permitted", "Allow user namespaces")
        return await asyncio.shield(self._start)

    async def diff(self, a: str | int, b: str | int | None = None) -> Any:
        if a == "endless":
            await asyncio.Event().wait()
        states = self.snapshots._known
        first = states[self.snapshots.find(a).number][1]
        second = self.snapshots.ran if b is None else states[self.snapshots.find(b).number][1]
        return differing(first, second, (str(a), "now" if b is None else str(b)))

    async def written_since(self, name: str | int) -> list[str]:
        return ["/tmp/x.csv"] if "write" in self.snapshots.find(name).name else []

    async def checkpoint(self, name: str = "") -> Checkpoint:
        if name == "no-room":
            raise StorageFailed("the pack: No space left on device")
        return Checkpoint(
            id="c0ffee",
            key="notebook",
            parent=None,
            label=name,
            made=0.0,
            size=3 << 20,
            added=1 << 20,
            about=About(python="3.11.7"),
            names=["x", "y"],
            skipped={"lock": "cannot pickle '_thread.lock' object\x1b[2J"},
        )

    async def revive(
        self, name: str, *, names: list[str] | None = None, force: bool = False
    ) -> tuple[Checkpoint, Any]:
        if name not in ("kept", "theirs"):
            raise NotFound(f"there is no checkpoint {name!r}; there are 'kept', 'theirs'")
        if names is not None or force:
            return await self.checkpoint(name), SimpleNamespace(
                names=names or ["forced"], failed={}, of="", unkept=""
            )
        of = "other\x1b[2J.ipynb" if name == "theirs" else ""
        return await self.checkpoint(name), SimpleNamespace(
            names=["x"],
            failed={"y": "it has changed"},
            of=of,
            unkept="other threads were running: a\x1b[31mb" if "thread" in self.snapshots.ran else "",
        )

    @property
    def checkpoint_titles(self) -> list[str]:
        return ["kept"]

    async def offer(self) -> str:
        return os.environ.get("SCRIPTED_OFFER", "")

    async def pause(self) -> int:
        return 3 << 20

    async def resume_gate(self, name: str | int, sink: Any) -> Verdict | None:
        self.stops.find(name)
        code = f"say resumed with {self.stops.edits}"
        request = wire.Request(
            id="old", kind="execute_request", content=json.dumps({"code": code}).encode(), count=3
        )
        return await self.submit(request, sink, keep=False)

    async def submit(self, request: wire.Request, sink: Any, *, keep: bool = True) -> Verdict | None:
        await self.ready()
        if request.kind == "execute_request" and request.count and keep:
            self.snapshots.before_cell(request.count)
        task = asyncio.ensure_future(self._serve(request, sink))
        if request.kind == "execute_request":
            self._task = task
        try:
            return await task
        except ProtocolViolation as error:
            return Verdict(reason=Reason.PROTOCOL, evidence=str(error))
        except Died as died:
            return died.verdict

    def on_stray(self, sink: Any) -> None:
        self._stray = sink

    def answer(self, answer: wire.Answer) -> None:
        self._answers.put_nowait(answer.text)

    def interrupt(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def usage(self) -> Usage:
        return Usage(memory=123, cpu=1.5, pids=2)

    async def _serve(self, request: wire.Request, sink: Any) -> None:
        content = json.loads(request.content)
        if request.kind == "execute_request":
            await self._execute(request, content["code"], sink)
        elif request.kind == "complete_request":
            self._reply(
                request, sink, {"status": "ok", "matches": ["guest"], "cursor_start": 0, "cursor_end": 1}
            )
        elif request.kind == "is_complete_request":
            self._reply(request, sink, {"status": "complete"})
        elif request.kind == "comm_msg":
            if reason := content["data"].get("die"):
                raise Died(Verdict(reason=Reason(reason), evidence="told to"))
            body = json.dumps({"comm_id": content["comm_id"], "data": content["data"]}).encode()
            sink(wire.Publish(parent=request.id, kind="comm_msg", content=body, buffers=request.buffers))

    async def _execute(self, request: wire.Request, code: str, sink: Any) -> None:
        extra: dict[str, Any] = {}
        try:
            for line in code.splitlines():
                self.snapshots.ran.append(line)
                await self._command(request, line, sink, extra)
        except (Raised, asyncio.CancelledError) as error:
            name = "KeyboardInterrupt" if isinstance(error, asyncio.CancelledError) else "Raised"
            trouble = {"ename": name, "evalue": "", "traceback": [name]}
            sink(wire.Publish(parent=request.id, kind="error", content=json.dumps(trouble).encode()))
            self._reply(request, sink, {"status": "error", **trouble})
        else:
            reply = {"status": "ok", "execution_count": 99, "user_expressions": {}, "payload": []}
            self._reply(request, sink, reply | extra)

    def _reply(self, request: wire.Request, sink: Any, content: dict[str, Any]) -> None:
        kind = request.kind.removesuffix("_request") + "_reply"
        lie = {"kernel_runtime": {"verdict": "a lie"}, "started": "never"}
        body, extra = json.dumps(content).encode(), json.dumps(lie).encode()
        sink(wire.Reply(parent=request.id, kind=kind, content=body, metadata=extra))

    async def _command(self, request: wire.Request, line: str, sink: Any, extra: dict[str, Any]) -> None:
        word, _, rest = line.partition(" ")

        def stream(name: str, text: str) -> None:
            sink(wire.Stream(parent=request.id, name=name, text=text))

        if word == "say":
            stream("stdout", rest + "\n")
        elif word == "err":
            stream("stderr", rest + "\n")
        elif word == "lines":
            for number in range(int(rest)):
                stream("stdout", f"{number}\n")
                if number % 1000 == 0:
                    await asyncio.sleep(0)
        elif word == "flood":
            count, size = map(int, rest.split())
            for number in range(count):
                stream("stdout", f"{number:08d}" + "x" * (size - 9) + "\n")
                await asyncio.sleep(0)
        elif word == "displays":
            for number in range(int(rest)):
                body = json.dumps({"data": {"text/plain": str(number)}, "metadata": {}}).encode()
                sink(wire.Publish(parent=request.id, kind="display_data", content=body))
                if number % 100 == 0:
                    await asyncio.sleep(0)
        elif word == "sleep":
            await asyncio.sleep(float(rest))
        elif word == "die":
            raise Died(Verdict(reason=Reason(rest), limit=1024.0, used=2048.0, evidence="told to"))
        elif word == "crash":
            raise Died(Verdict(reason=Reason.SIGNAL, evidence="it crashed by SIGSEGV"))
        elif word == "survive":
            raise Died(Verdict(reason=Reason.WALL, limit=1.0, used=1.1, survived=True))
        elif word == "raise":
            raise Raised
        elif word == "deny":
            sink(wire.Denied(call=rest))
        elif word == "ask":
            sink(wire.Ask(id="q", parent=request.id, prompt=rest, password=False))
            stream("stdout", repr(await self._answers.get()))
        elif word == "asks":
            self._asked.append(asyncio.ensure_future(person().answer(asked(rest))))
            while person()._card is None or person()._card._shown is None:
                await asyncio.sleep(0.005)
            stream("stdout", f"{rest} is asked\n")
        elif word == "asks_in_vain":
            try:
                stream("stdout", f"answer: {await person().answer(asked(rest))}\n")
            except CapabilityDenied as error:
                stream("stdout", f"denied: {error}\n")
        elif word == "press":
            card = person()._card
            for widget in (card.root, card.once, card.always):
                for kind, body in spoofs(widget.model_id):
                    sink(wire.Publish(parent=request.id, kind=kind, content=json.dumps(body).encode()))
            stream("stdout", f"open: {not self._asked[-1].done()}\n")
        elif word == "answered":
            stream("stdout", f"answers: {[str(each) for each in await asyncio.gather(*self._asked)]}\n")
        elif word == "publish":
            kind, _, body = rest.partition(" ")
            sink(wire.Publish(parent=request.id, kind=kind, content=body.encode()))
        elif word == "reply":
            sink(wire.Reply(parent=request.id, kind="execute_reply", content=rest.encode()))
        elif word == "payload":
            extra["payload"] = json.loads(rest)
        elif word == "number":
            stream("stdout", str(request.count))
        elif word == "late":
            self._late.append(wire.Stream(parent=request.id, name="stdout", text=rest))
        elif word == "release":
            for frame in self._late:
                self._stray(frame)


class ScriptedHouse:
    _session: ScriptedSession | None = None

    def open_session(self, settings: Settings) -> ScriptedSession:
        self._session = ScriptedSession(settings)
        return self._session

    def warm_up(self) -> None:
        pass

    async def close(self) -> None:
        if self._session is not None and self._session._broker is not None:
            await self._session._broker.close()


if __name__ == "__main__":
    sys.exit(main(build=ScriptedHouse))

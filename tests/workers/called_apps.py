"""Apps that are called in tests, and the front whose callers need no guest of their own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psutil

from kernel_runtime.broker.apps import Apps
from kernel_runtime.capabilities import Powers, broker_for
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.runtime import Runtime, Settings
from kernel_runtime.workers.portal import Portal

if TYPE_CHECKING:
    from pathlib import Path

    from kernel_runtime.capabilities import SessionBroker

TOOL = """permissions = [
  { type = "clock" }, { type = "env", resource = "REGION" }, { type = "secret", resource = "pin" },
  { type = "call", resource = "*" }, { type = "events", resource = "t", actions = ["publish"] },
]
---
import os, signal, sys, time
from kernel_runtime.sdk import CapabilityDenied, call, clock, env, events, log, secrets
seen = []

def count():
    seen.append(1)
    return len(seen)

def where():
    open("written", "w").close()
    return [os.getcwd(), sorted(os.listdir("."))]

def moment() -> bool:
    return clock.now().year > 2000

def region():
    return env.get("REGION")

def tell():
    raise ValueError("with " + secrets.get("pin"))

def on(app: str, seconds: float = 500):
    return call(app, {"a": 1} if app == "tight.add" else None, timeout=seconds)

def chat(key: str = ""):
    print("it is", secrets.get("pin"), key, end="")
    print("warned", file=sys.stderr)
    os.system("echo from a program")
    log.info("noted", key=key)
    print("the end")
    return key

def fail(key: str = ""):
    print("before")
    raise ValueError("no such " + key)

def named(name: str):
    try:
        env.get(name)
    except CapabilityDenied as error:
        print(error)

def guess():
    raise ValueError("is it door-OpEn-9876543210")

def talk_and_hang():
    print("begun", end="")
    events.publish("t", "begun")
    time.sleep(500)

def leave():
    os._exit(7)

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

def stubborn():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events.publish("t", "begun")
    while True:
        time.sleep(10)

def garbled():
    import kernel_runtime.guest.serving as serving
    serving.packed.pack = lambda *_: b"\\x81\\xa5value\\xc4\\x05\\xdd\\xff\\xff\\xff\\xff"

def unsaid():
    import kernel_runtime.guest.serving as serving
    serving.REPLY = "elsewhere"
"""
BACK = """permissions = [{ type = "call", resource = "tool.*" }]
---
from kernel_runtime.sdk import call, clock

def back():
    return call("tool.on", {"app": "bare.one"})

def hang():
    return call("tool.stubborn", timeout=500)
"""
ASKS_NOTHING = """permissions = []
---
from kernel_runtime.sdk import clock

def one():
    return 1

def speak():
    print("spoken")

def moment():
    return clock.now().year
"""
TIGHT = """dependencies = ["pandas >= 2"]
limits = { memory = "256M" }
security = { level = "strict" }
---
def fill() -> int:
    held = []
    while True:
        held.append(bytearray(1 << 20))

def peek():
    return open("app.toml").read()

def add(a: int, b: int = 2) -> int:
    return a + b

def divide(a: int) -> float:
    return a / 0
"""

#: All of them, for ``install``.
APPS = {"tool": TOOL, "back": BACK, "bare": ASKS_NOTHING, "tight": TIGHT}


class Front:
    """A runtime in a loop of its own, and callers that need no guest. ``others``: processes that were there before."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.portal = Portal()
        self.runtime = Runtime(Settings(workdir=str(place / "work"), warm=()))
        self.commons = self.runtime.commons
        self.others = set(psutil.Process().children(recursive=True))

    def powers(self, **more: Any) -> Powers:
        return Powers(**{"name": "notebook", "directory": str(self.place / "work")} | more)

    def broker(self, **powers: Any) -> SessionBroker:
        return broker_for(self.powers(**powers), Disclosed(), self.commons)

    async def ask(
        self, handler: str, arguments: dict[str, Any], timeout: float = 300.0, **powers: Any
    ) -> Any:
        broker = self.broker(**powers)
        try:
            return await ask(broker, handler, arguments, timeout)
        finally:
            await broker.close()

    def __call__(self, handler: str, timeout: float = 300.0, **arguments: Any) -> Any:
        return self.portal.call(self.ask(handler, arguments, timeout))

    @property
    def homes(self) -> list[Any]:
        callees: Any = self.commons.callees
        return [] if callees is None else list(callees._homes.values())

    @property
    def guests(self) -> int:
        return sum(home.guests for home in self.homes)

    def said(self, app: str) -> list[tuple[str, str, str]]:
        """Source, level and text of what its guests have said since this was last asked."""
        records = [record for record in self.commons.said.records.take() if record.app == app]
        return [(r.fields.get("stream", "log"), str(r.level), r.message) for r in records]

    def settled(self) -> int:
        """Guests when all has ended that is ending."""

        async def settle() -> None:
            while ending := self.commons.callees._ending:  # type: ignore[union-attr]
                await asyncio.wait(ending)

        self.portal.call(settle())
        return self.guests


def listed(place: Path) -> Apps:
    return Apps({"XDG_CONFIG_HOME": str(place / "config")}, system=place / "none" / "policy.toml")


async def ask(broker: SessionBroker, handler: str, arguments: dict[str, Any], timeout: float = 300.0) -> Any:
    app, _, name = handler.rpartition(".")
    asked = {"app": app, "handler": name, "arguments": arguments, "timeout": timeout}
    return (await broker.call("call", "run", asked)).value

"""The kernel, whose cells also ask for capabilities: a line ``# ask SCOPE`` is decided by the gate and,
where that says so, by the person; the cell prints the answers. Run it as a file."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.domain.scopes import parse_request
from kernel_runtime.domain.snapshot import Budget
from kernel_runtime.jupyter.kernel import RuntimeHouse, build_house, main

if TYPE_CHECKING:
    from kernel_runtime.jupyter.guest import House, Session
    from kernel_runtime.jupyter.settings import Settings

NAME = "asking"
_ASKS = re.compile(r"# ask (\S+)")


def install(prefix: Path) -> None:
    """Its kernelspec."""
    place = prefix / "share" / "jupyter" / "kernels" / NAME
    place.mkdir(exist_ok=True)
    argv = [sys.executable, str(Path(__file__)), "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python (kernel_runtime)", "language": "python"}
    (place / "kernel.json").write_text(json.dumps(spec | {"interrupt_mode": "message"}))


async def decided(broker: Any, scope: str) -> str:
    """What becomes of a request of the guest's, as its broker has it."""
    try:
        await broker.demand(Request(scope=parse_request(scope)))
    except CapabilityDenied:
        return f"{scope}: deny\n"
    return f"{scope}: allow\n"


def asking_house() -> House:
    """The house, whose sessions ask."""
    house = build_house()
    assert isinstance(house, RuntimeHouse)
    open_session = house.open_session

    def asking(settings: Settings) -> Session:
        session = open_session(settings)
        session.snapshots.set_budget(Budget(pause=3600))
        submit = session.submit

        async def ask_too(request: wire.Request, sink: Any, *arguments: Any, **options: Any) -> Any:
            scopes = _ASKS.findall(json.loads(request.content).get("code", ""))
            if request.kind != "execute_request" or not scopes:
                return await submit(request, sink, *arguments, **options)
            answers = [asyncio.ensure_future(decided(session.broker(), scope)) for scope in scopes]
            verdict = await submit(request, sink, *arguments, **options)
            for text in await asyncio.gather(*answers):
                sink(wire.Stream(parent=request.id, name="stdout", text=text))
            return verdict

        session.submit = ask_too
        return session

    house.open_session = asking
    return house


if __name__ == "__main__":
    sys.exit(main(build=asking_house))

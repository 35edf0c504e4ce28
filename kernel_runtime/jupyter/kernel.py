"""The kernel process: ``python -m kernel_runtime.jupyter.kernel -f {connection_file}``.

The zygote is launched before anything else is imported, so that its start overlaps with this
process's own.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # a kernelspec without -P: what lies beside the notebook is not ours to import

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kernel_runtime.broker.commons import Commons
    from kernel_runtime.broker.flow import Carry
    from kernel_runtime.domain.disclosed import Disclosed
    from kernel_runtime.jupyter.guest import House, Session
    from kernel_runtime.jupyter.settings import Settings
    from kernel_runtime.ports import Broker
    from kernel_runtime.runtime import Runtime


class RuntimeHouse:
    """The runtime as the front sees it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._began = time.time()

    def open_session(self, settings: Settings) -> Session:
        from kernel_runtime.jupyter import limits_magic
        from kernel_runtime.outside import Outside

        outside = Outside()
        session = self._runtime.open_session(
            limits=settings.limits,
            level=settings.level,
            name=_name(),
            arguments=settings.arguments,
            rung=settings.rung,
            flood=settings.flood,
            snapshots=settings.budget,
            idle=settings.idle,
            key=_key(),
            saving=settings.saving,
            blocked=_blocked(settings),
            broker=lambda session, commons: broker_of(
                settings, session.disclosed, commons, self._began, session.account.carried
            ),
            egress=outside,
            shown_by=limits_magic.NAME,
        )
        outside.of(session)
        return session

    def warm_up(self) -> None:
        self._runtime.warm_up()

    async def close(self) -> None:
        await self._runtime.close()


def _blocked(settings: Settings) -> list[tuple[str, str, str]]:
    """What strict's language refuses beside the package's rules."""
    from kernel_runtime.domain.level import Level

    if settings.level is not Level.STRICT:
        return []
    from pathlib import Path

    from kernel_runtime.broker.policies import check_sections
    from kernel_runtime.guest.check_rules import blocked_by

    return blocked_by(settings.policy, check_sections(Path.cwd(), os.environ))


def broker_of(
    settings: Settings, disclosed: Disclosed, commons: Commons, began: float, carry: Carry
) -> Broker:
    """What the guest asks; a notebook that declares nothing may ask for everything, and the person decides.
    The classic notebook names the directory alone, and other fronts nothing."""
    from kernel_runtime.capabilities import Powers, broker_for

    notebook = os.environ.get("JPY_SESSION_NAME", "")
    found = notebook if notebook.endswith(".ipynb") and os.path.isfile(notebook) else None
    powers = Powers(
        name=os.path.basename(notebook) or "notebook",
        known=bool(settings.manifest or os.path.basename(notebook)),
        directory=os.getcwd(),
        level=settings.level,
        manifest=settings.manifest or found,
        policy=[settings.policy] if settings.policy else [],
        allow=settings.allow,
        deny=settings.deny,
        person=settings.person,
        rung=settings.rung,
        began=began,
    )
    return broker_for(powers, disclosed, commons, carry=carry)


def build_house() -> House:
    """Launch the zygote now; the rest is imported while it starts."""
    from kernel_runtime.workers.launch import launch_for_shell

    launch = launch_for_shell(os.getcwd())

    from kernel_runtime.runtime import Runtime, default_settings

    return RuntimeHouse(Runtime(default_settings(kind="kernel"), launch))


def main(arguments: Sequence[str] | None = None, build: Callable[[], House] = build_house) -> int:
    """Run the kernel; the exit status. ``build`` makes the house (tests give a fake)."""
    from kernel_runtime.domain.errors import KernelRuntimeError

    try:
        run(sys.argv[1:] if arguments is None else arguments, build)
    except KernelRuntimeError as error:
        print(f"kernel_runtime: {error}", file=sys.stderr)
        return 1
    return 0


def run(arguments: Sequence[str], build: Callable[[], House]) -> None:
    """Launch, listen, import, serve: in the order in which others wait for it."""
    from kernel_runtime.jupyter.connection import Door
    from kernel_runtime.jupyter.settings import parse_arguments, resolve

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing to interrupt yet, and never a kill
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    door = Door(parse_arguments(arguments).connection_file)
    try:
        house = build()
        import asyncio

        from kernel_runtime.jupyter.front import Front

        asyncio.run(Front(resolve(arguments, os.environ), door, house).run())
    finally:
        door.close()


def _name() -> str:
    """What ``sessions`` lists this kernel as: its notebook, when the server told it."""
    return os.path.basename(os.environ.get("JPY_SESSION_NAME", ""))


def _key() -> str:
    """Whose checkpoints this kernel writes and offers: its notebook's, or its directory's."""
    notebook = os.environ.get("JPY_SESSION_NAME", "")
    return os.path.realpath(notebook) if notebook.endswith(".ipynb") else os.getcwd()


if __name__ == "__main__":
    sys.exit(main())

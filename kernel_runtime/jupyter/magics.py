"""``%%sandbox``, ``%%app`` and ``%sandbox`` for any IPython: ``%load_ext kernel_runtime``."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from kernel_runtime.domain.amounts import show_amount
from kernel_runtime.domain.errors import Conflict, Invalid, KernelRuntimeError, NotFound
from kernel_runtime.domain.level import Level, parse_level
from kernel_runtime.domain.limits import Limits, parse_seconds
from kernel_runtime.domain.manifest import Anchors, parse_cell
from kernel_runtime.jupyter import sandbox_states
from kernel_runtime.jupyter.advice import Advice, advice_for
from kernel_runtime.jupyter.completion import SandboxCompletion
from kernel_runtime.jupyter.guests import Guest, Guests, converse
from kernel_runtime.jupyter.sandbox_panel import SandboxPanels
from kernel_runtime.jupyter.sandbox_states import DEFAULT
from kernel_runtime.jupyter.showing import Hearing, SandboxError, Showing, error_of, plain_error

if TYPE_CHECKING:
    import argparse
    from collections.abc import Coroutine, Iterator

    from IPython.core.interactiveshell import InteractiveShell

    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.jupyter.front_magics import Call
    from kernel_runtime.jupyter.guests import Running
    from kernel_runtime.ports import Person

PANELS = ("resources", "permissions", "logs")
#: Actions that are about no guest in particular.
_OF_ALL = ("list", "logs")
AMOUNTS = Limits.__struct_fields__
#: How long the end of a guest's first cell waits for whether a checkpoint is kept: a disk may hang.
_OFFER_SECONDS = 2.0
#: Between a magic and the code that it stands in there is IPython alone.
_FRAMES = 2
_extensions: dict[int, SandboxMagics] = {}


@magics_class
class SandboxMagics(Magics):
    """Runs cells in guests; one ``Guests`` for each shell."""

    def __init__(self, shell: InteractiveShell, guests: Guests | None = None) -> None:
        super().__init__(shell)
        self.host = shell
        self.guests = guests or Guests(open_guest, open_app, known=bool(_notebook()))
        self.panels = SandboxPanels(self.guests)
        self._met: WeakSet[Guest] = WeakSet()
        self._advices: dict[tuple[str, str, str, Level], Advice] = {}
        self.completion = SandboxCompletion(shell, self.guests)

    @magic_arguments()
    @argument(
        "--name", default=DEFAULT, help="The guest to run in; it is kept between cells. Default: %(default)s."
    )
    @argument("--memory", metavar="SIZE", help="Memory of the whole guest, like 512M.")
    @argument("--time", dest="wall", metavar="TIME", help="Wall time of each cell, like 30s.")
    @argument("--cpu", metavar="TIME", help="CPU time of each cell, like 10s.")
    @argument("--cpus", metavar="N", help="Cores' worth of CPU time at any moment, like 0.5.")
    @argument("--session", metavar="TIME", help="Wall time of the whole session, like 2h.")
    @argument("--pids", metavar="N", help="Processes and threads at once, like 32.")
    @argument("--disk", metavar="SIZE", help="What the guest may write to its own layer, like 64M.")
    @argument("--inodes", metavar="N", help="Files and directories in that layer, like 10000.")
    @argument("--file-size", metavar="SIZE", help="Size of one file, like 16M.")
    @argument("--open-files", metavar="N", help="Open files of one process, like 256.")
    @argument("--messages", metavar="N", help="Output messages per second, like 1000.")
    @argument("--network", metavar="SIZE", help="Bytes over the network in total, like 1G.")
    @argument("--bandwidth", metavar="SIZE", help="Bytes over the network per second, like 1M.")
    @argument("--output-limit", dest="output", metavar="SIZE", help="Output of each cell, like 8M.")
    @argument(
        "--idle", metavar="TIME", help="Pause the guest when nothing was asked of it for so long, like 30m."
    )
    @argument("--level", metavar="LEVEL", help="strict, moderate (default) or permissive.")
    @argument(
        "--check",
        metavar="MODE",
        default="",
        help="Read the cell before it runs: off, show or refuse. Default: show at strict, or where a policy has [check].",
    )
    @argument("--policy", metavar="FILE", default="", help="Rules for the check (TOML).")
    @argument(
        "-i",
        "--in",
        dest="inputs",
        action="append",
        default=[],
        metavar="VAR",
        help="Copy a variable into the guest first. May be repeated.",
    )
    @argument(
        "-o",
        "--out",
        dest="outputs",
        action="append",
        default=[],
        metavar="VAR",
        help="Copy a variable out of the guest afterwards. May be repeated.",
    )
    @argument("--fresh", action="store_true", help="Begin with a new guest: forget the one of that name.")
    @cell_magic("sandbox")  # type: ignore[arg-type] # its stub knows no name
    def run_cell(self, line: str, cell: str) -> None:
        """Run this cell in a guest behind the operating system's walls.

        Variables cross by safe formats only: JSON values, bytes, numpy arrays without objects, pandas
        and Arrow tables. Nothing is ever unpickled. A guest keeps its limits while it lives.
        """
        asked = _parsed(self.run_cell, line)
        with plain_errors():
            amounts = {name: getattr(asked, name) for name in AMOUNTS if getattr(asked, name) is not None}
            level = None if asked.level is None else parse_level(asked.level, "--level")
            idle = None if asked.idle is None else parse_seconds(asked.idle, "--idle")
            inputs = self._inputs(asked.inputs)
            _check_names("-o", asked.outputs)
            guest = self.guests.take(asked.name, amounts, level, idle=idle, fresh=asked.fresh)
            self._advise(asked, guest.level, cell)
            self._run(guest, asked.name, cell, inputs, asked.outputs)

    @magic_arguments()
    @argument("app", nargs="?", default="app", metavar="NAME", help="Its id, unless the manifest says one.")
    @argument(
        "-i", "--in", dest="inputs", action="append", default=[], metavar="VAR", help="As of %%%%sandbox."
    )
    @argument(
        "-o", "--out", dest="outputs", action="append", default=[], metavar="VAR", help="As of %%%%sandbox."
    )
    @argument("--fresh", action="store_true", help="Begin with a new guest: forget the one of this app.")
    @cell_magic("app")  # type: ignore[arg-type] # its stub knows no name
    def run_app(self, line: str, cell: str) -> None:
        """Run this cell as an app: in a guest of its own, that may do what the manifest at its head asks for and a
        policy (or you, in %sandbox permissions) grants.

        The head is TOML in comments, from "# /// app" to "# ///": permissions, limits, security, as in an app.toml.
        """
        asked = _parsed(self.run_app, line)
        with plain_errors():
            manifest = parse_cell(f"\n{cell}", "%%app", asked.app, Anchors(os.getcwd(), str(Path.home())))
            inputs = self._inputs(asked.inputs)
            _check_names("-o", asked.outputs)
            guest, anew = self.guests.take_app(manifest, fresh=asked.fresh)
            if anew:
                print(f"the manifest of {manifest.id} has changed: it begins anew", file=sys.stderr)
            self._run(guest, manifest.id, cell, inputs, asked.outputs)

    def _run(self, guest: Guest, name: str, cell: str, inputs: dict[str, Any], outputs: list[str]) -> None:
        """Variables in, the cell, variables out. The first cell says whether a checkpoint is kept."""
        offer = self._begun_offer(guest)
        for variable, value in inputs.items():
            _put(guest, variable, value)
        try:
            self._converse(guest, name, cell)
        finally:
            if offer is not None:
                self._tell(offer, name)
        self.host.push({variable: guest.value(variable) for variable in outputs})

    def _begun_offer(self, guest: Guest) -> asyncio.Task[str] | None:
        """What there is to say to who begins with this guest, looked up while its first cell runs; completion knows
        its checkpoints then, too."""
        if guest in self._met:
            return None
        self._met.add(guest)
        from kernel_runtime.client import in_the_loop

        return in_the_loop(_begun(guest.watched.offer()))

    def _tell(self, offer: asyncio.Task[str], name: str) -> None:
        from kernel_runtime.client import in_the_loop

        if told := in_the_loop(_in_time(offer)):
            print(f"kernel_runtime: {sandbox_states.as_here(told, name)}", file=sys.stderr)

    def _converse(self, guest: Guest, name: str, code: Running) -> None:
        """Show what comes of a cell until it ends; an error of its is raised."""
        person = self.guests.person(name)
        showing = Showing(self.host, name, guest, person)
        hearing = Hearing(self.guests.logs, name, self._cell)
        result = converse(guest, code, showing.show, hearing, person, self._cell)
        if result.verdict is not None:
            self.guests.logs.record("error", result.verdict.tell(), source="host", guest=name)
        error = error_of(result, name)
        if error is not None:
            raise error

    @property
    def _cell(self) -> int:
        """The number of the notebook's cell that runs: IPython counts on before that or after, as its version is."""
        history = self.host.history_manager
        return 0 if history is None else len(history.input_hist_parsed) - 1

    def _advise(self, asked: argparse.Namespace, level: Level, cell: str) -> None:
        """Show what the check finds, or refuse, before the cell goes to its guest."""
        key = (asked.name, asked.check, asked.policy, level)
        if key not in self._advices:
            self._advices[key] = advice_for(asked.check, asked.policy, level)
        bundle = self._advices[key].judge(cell)
        if bundle:
            self.host.display_pub.publish(data=bundle)

    def _inputs(self, names: list[str]) -> dict[str, Any]:
        _check_names("-i", names)
        missing = [name for name in names if name not in self.host.user_ns]
        if missing:
            raise NotFound(f"-i: there is no variable {missing[0]!r} in this notebook")
        return {name: self.host.user_ns[name] for name in names}

    @magic_arguments()
    @argument(
        "action",
        choices=("list", *PANELS, "kill", "reset", *sandbox_states.ACTIONS),
        help="list: the guests there are; resources [GUEST]: a panel of what they use; permissions [GUEST]: one of what they may "
        "do, with the audit trail; logs: one of what they have said; kill GUEST: end one; reset GUEST: give it a clean interpreter; the "
        "others keep, show, compare and bring back states of a guest (--name GUEST), as the kernel's magics of these names do: "
        "`%%sandbox undo?` and so on show how each is used.",
    )
    @argument("names", nargs="*", help="What it is done with.")
    @no_var_expand  # for an expression at a gate; else it is done here
    @line_magic("sandbox")  # type: ignore[arg-type] # its stub knows no name
    def manage(self, line: str) -> None:
        """List, end or reset the guests of this notebook; keep states of one and go back to them."""
        found = sandbox_states.recognise(line)
        if found is None or found[0].magic.raw is None:
            line = self.host.var_expand(line, _FRAMES)
            found = sandbox_states.recognise(line)
        with plain_errors():
            if found is not None:
                self._on_states(*found)
            else:
                asked = _parsed(self.manage, line)
                self._manage(asked.action, asked.names)

    def _manage(self, action: str, names: list[str]) -> None:
        most = 0 if action in _OF_ALL else 1
        if len(names) > most:
            what = f"one guest, not {len(names)}" if most else "no name: it shows those of all guests"
            raise Invalid(f"%sandbox {action}: it takes {what}; `%sandbox?` shows how it is used")
        if action == "list":
            print(self._listing())
        elif action in PANELS:
            self.host.display_pub.publish(data=self.panels.show(action, *names[:1]))
        elif action == "kill":
            self.guests.kill(*(names or [DEFAULT])[:1])
        else:
            self.guests.reset(*(names or [DEFAULT])[:1])

    def _on_states(self, call: Call, name: str) -> None:
        """Keep, show, compare or bring back states of a guest."""
        if call.help:
            self.host.display_pub.publish(data=sandbox_states.help_of(call))
            return
        from kernel_runtime.client import in_the_loop

        asked = sandbox_states.arguments(call, name)
        guest = self.guests.get(asked.guest)
        if call.magic.name == "snapshots" and asked.action is None and hasattr(self.host, "kernel"):
            self.host.display_pub.publish(data=self.panels.snapshots(asked.guest))
            return
        session = guest.watched
        bench = sandbox_states.Bench(session, guest.records, asked.guest)
        bundle = in_the_loop(bench.perform(call.magic, asked), bench.interrupt)
        if bundle is not None:
            self.host.display_pub.publish(data=bundle)
        if bench.going_on is not None:
            self._converse(guest, asked.guest, bench.going_on)

    def _listing(self) -> str:
        names = self.guests.names()
        return "\n".join(map(self._described, names)) if names else "no guests yet; %%sandbox makes one"

    def _described(self, name: str) -> str:
        guest = self.guests.get(name)
        memory = show_amount("memory", guest.limits.memory)
        return f"{name}: level {guest.level}, memory {memory}, pids {show_amount('pids', guest.limits.pids)}"


async def _begun(looking: Coroutine[Any, Any, str]) -> asyncio.Task[str]:
    return asyncio.get_running_loop().create_task(looking)


async def _in_time(offer: asyncio.Task[str]) -> str:
    """What has been found; "" where that takes too long, or the guest has ended."""
    await asyncio.wait([offer], timeout=_OFFER_SECONDS)
    return offer.result() if offer.done() and not offer.cancelled() and not offer.exception() else ""


def _parsed(magic: Any, line: str) -> argparse.Namespace:
    """Its arguments, split as a shell would: ``parse_argstring`` leaves quotes in them."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"{error} in {line!r}") from None
    parsed: argparse.Namespace = magic.parser.parse_args(words)
    return parsed


def _check_names(flag: str, names: list[str]) -> None:
    for name in names:
        if not name.isidentifier():
            raise Invalid(f"{flag}: {name!r} is not the name of a variable")


def _put(guest: Guest, name: str, value: Any) -> None:
    """Copy a variable in; an error names the variable."""
    try:
        guest.put(name, value)
    except Invalid as error:
        raise Invalid(f"-i {name}: {str(error).removeprefix('value: ')}") from None


def open_guest(name: str, limits: Limits, level: Level, idle: float | None, person: Person) -> Guest:
    """A guest that sees the current directory. What is remembered of it is for this notebook's guest of that name."""
    return _opened(limits=limits, level=level, idle=idle, name=_whose(f"%%sandbox {name}"), person=person)


def open_app(manifest: Manifest, person: Person) -> Guest:
    """A guest with the powers of its manifest. What is remembered is for this notebook's app of that id."""
    name = _whose(f"%%app {manifest.id}")
    placed = dataclasses.replace(manifest, place=f"{os.getcwd()}#{name}")
    return _opened(name=name, manifest=placed, person=person)


def _opened(**terms: Any) -> Guest:
    from kernel_runtime.client import Session

    session = Session(**terms)
    session.open()
    return session


def _whose(name: str) -> str:
    return f"{name} of {notebook}" if (notebook := _notebook()) else name


def _notebook() -> str:
    """Its name, where a Jupyter server tells it."""
    return os.path.basename(os.environ.get("JPY_SESSION_NAME", ""))


@contextmanager
def plain_errors() -> Iterator[None]:
    """Errors of ours as one plain line, without a traceback of the host's own frames."""
    try:
        yield
    except (Invalid, NotFound, Conflict) as error:
        raise UsageError(str(error)) from None
    except SandboxError:
        raise
    except KernelRuntimeError as error:
        raise plain_error(error) from None


# -- the extension --------------------------------------------------------------------------------


def load_ipython_extension(ip: InteractiveShell) -> None:
    """``%load_ext kernel_runtime``."""
    if id(ip) in _extensions:
        return
    magics = SandboxMagics(ip)
    _extensions[id(ip)] = magics
    ip.register_magics(magics)
    magics.completion.register()
    ip.input_transformers_cleanup.append(sandbox_states.asking)


def unload_ipython_extension(ip: InteractiveShell) -> None:
    """``%unload_ext kernel_runtime``: magics, completion and guests go."""
    magics = _extensions.pop(id(ip), None)
    if magics is None:
        return
    magics.completion.unregister()
    ip.input_transformers_cleanup.remove(sandbox_states.asking)
    for kind in ("line", "cell"):
        for name in ("sandbox", "app"):
            ip.magics_manager.magics[kind].pop(name, None)
    ip.magics_manager.registry.pop(type(magics).__name__, None)
    magics.panels.close()
    magics.guests.close()

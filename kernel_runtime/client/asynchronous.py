"""``AsyncSession``: a guest of your own."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kernel_runtime.capabilities import Powers, broker_for
from kernel_runtime.client import arguments
from kernel_runtime.client.opened import execute_request
from kernel_runtime.client.runtimes import runtime_for
from kernel_runtime.client.states import AsyncStates
from kernel_runtime.domain.level import Level, Rung, parse_level, parse_rung
from kernel_runtime.domain.limits import Limits, parse_flood, parse_limits
from kernel_runtime.domain.records import Records
from kernel_runtime.domain.scopes import parse_scope
from kernel_runtime.outside import Outside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kernel_runtime.capabilities import SessionBroker
    from kernel_runtime.domain.check_policy import Rule
    from kernel_runtime.domain.file_changes import FileChanges, Outcome
    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.domain.snapshot import Budget, Saving
    from kernel_runtime.domain.usage import Nearly, Usage
    from kernel_runtime.ports import Person
    from kernel_runtime.result import Output, Result
    from kernel_runtime.runtime import Runtime
    from kernel_runtime.workers import session as sessions


_NAME = "a name, like 'clean'"


class AsyncSession(AsyncStates):
    """A guest of your own, kept until it is closed. Give limits as text or numbers:
    ``memory="512M"``, ``wall="30s"``, ``cpu="10s"``, ``cpus=0.5``, ``session="1h"``, ``pids=32``,
    ``disk="64M"``, ``output="1M"``, ``messages=1000``, … (see ``Limits``).

    ``flood``: ``"cut"`` leaves out the middle of a flood of output and the code goes on, ``"end"``
    ends it with a verdict. ``on_warning`` is called with a ``Nearly`` when a run has used 80 % of a
    limit, once for each; without it the warning is a line on the run's stderr.

    ``automatic``: whether there is a snapshot before each run, so that one that is killed leaves the
    variables as they were; ``snapshots``: what snapshots may take (a ``Budget``). ``idle``: seconds, or text like ``"30m"``,
    in which nothing is asked of the guest, after which it is paused as by ``pause`` (default, and 0: never).

    What the guest may ask of the host (``kernel_runtime.sdk``): ``manifest``, a file that declares it (an
    ``app.toml``, a notebook; its limits and level may only tighten); ``allow`` and ``deny``, scopes like
    ``"net:api.example.org/GET"``; ``policy``, a file of rules (TOML), whose checks level strict refuses
    beside its own; ``person``, who is asked where nothing decides (a ``ports.Person``). Without one, asking is denying.

    ``saving``: when a checkpoint is written without being asked for, and how many are kept (``Saving(every=600)``; default: on
    ``checkpoint`` alone, the newest 20). Give a ``name``, by which they are found again.

    ``workdir``: the directory the guest may read (default: the current one; None: none; never
    your home directory). ``rung="landlock"`` accepts walls without namespaces, on a host that
    refuses them (default: what ``KERNEL_RUNTIME_RUNG`` says). Raises ``Invalid`` for malformed
    amounts, ``WallUnavailable`` with the fix when this host cannot build the walls of ``level``.
    """

    def __init__(
        self,
        *,
        level: Level | str = Level.MODERATE,
        workdir: str | os.PathLike[str] | None = "",
        limits: Limits | None = None,
        name: str = "",
        flood: str = "cut",
        policy: str = "",
        rung: Rung | str | None = None,
        on_warning: Callable[[Nearly], None] | None = None,
        automatic: bool = True,
        snapshots: Budget | None = None,
        idle: str | float | None = None,
        manifest: Manifest | str | os.PathLike[str] | None = None,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        person: Person | None = None,
        saving: Saving | None = None,
        **amounts: object,
    ) -> None:
        super().__init__()
        self.level = parse_level(arguments.text(level, "level", "a level, like 'strict'"))
        self._budget = arguments.budget(snapshots)
        self._automatic = automatic
        self.idle = arguments.seconds(idle, "idle") or None
        self._saving = arguments.saving(saving)
        self.rung = _accepted_rung(rung)
        self.flood = parse_flood(arguments.text(flood, "flood", "'cut' or 'end'"))
        given = arguments.limits(limits)
        self.limits = parse_limits(amounts, given, place="Session") if amounts else given
        self.name = arguments.text(name, "name", "text, like 'report'")
        self._on_warning = arguments.callback(on_warning, "on_warning")
        self._promised: list[Rule] = []
        self._workdir = None if workdir is None else arguments.directory(workdir or os.getcwd(), "workdir")
        rules = arguments.path(policy, "policy") if policy != "" else ""
        self._powers = Powers(
            name=name,
            directory=self._workdir or "",
            level=self.level,
            manifest=arguments.manifest(manifest),
            policy=[rules] if rules else [],
            allow=arguments.scopes(allow, "allow"),
            deny=arguments.scopes(deny, "deny"),
            person=person,
            rung=self.rung,
        ).check()
        if manifest is not None:
            self._tighten_by_manifest()
        self.blocked = _blocked_by(rules, self.level, self._workdir or "", self._promised)
        self._cells = 0
        self._runtime: Runtime | None = None

    def _tighten_by_manifest(self) -> None:
        """What an app says it can live with holds where it is less than what was given."""
        manifest = self._powers.read_manifest()
        self.limits, self.level = manifest.tightened(self.limits, self.level)
        if manifest.table.security.blocked_apis:
            from kernel_runtime.domain.check_policy import promised  # only where there is one

            self._promised = promised(manifest.table.security.blocked_apis)
        self._powers = dataclasses.replace(self._powers, manifest=manifest, level=self.level)

    async def __aenter__(self) -> AsyncSession:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Start the guest and wait until it takes code."""
        runtime = self._runtime = runtime_for(self._workdir)
        if self._session is None:
            outside = Outside()
            self._session = runtime.open_session(
                limits=self.limits,
                level=self.level,
                rung=self.rung,
                name=self.name,
                flood=self.flood,
                blocked=self.blocked,
                notices=self._on_warning is None,
                snapshots=self._budget,
                automatic=self._automatic,
                idle=self.idle,
                broker=lambda session, commons: broker_for(
                    self._powers, session.disclosed, commons, carry=session.account.carried
                ),
                egress=outside,
                saving=self._saving,
            )
            outside.of(self._session)
        if self._on_warning is not None:
            self._session.on_warning(self._on_warning)
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
    def watched(self) -> sessions.Session:
        """What panels watch; to be used in this session's loop alone."""
        return self._open

    @property
    def walls(self) -> list[str]:
        """The walls that stand around the guest, by name."""
        return self._open.walls

    @property
    def denied(self) -> list[str]:
        """The system calls that were denied to the guest so far, like ``socket(AF_VSOCK)``."""
        return self._open.denied

    @property
    def standing(self) -> dict[str, object]:
        """The record of its walls: ``level``, ``rung``, ``walls`` that stand, and ``missing`` ones
        with what stands in for each."""
        return self._open.standing

    @property
    def partial(self) -> dict[str, str]:
        """The limits that this host cannot hold exactly, and what stands in for it."""
        return self._open.partial

    async def run(
        self,
        code: str,
        *,
        check: bool = True,
        on_output: Callable[[Output], None] | None = None,
        on_input: Callable[[str, bool], str | None] | None = None,
        cell: int = 0,
    ) -> Result:
        """Run code; outputs are collected and, as they come, given to ``on_output``.

        ``on_input(prompt, password)`` answers ``input()``; without it ``input()`` raises in the
        guest. ``check``: raise what went wrong instead of returning it in the ``Result``. ``cell``: its number
        where it has one already, if that is higher than the last one's; runs are counted from 1.
        """
        session, source, cell = self._open, arguments.code(code), arguments.whole(cell, "run: cell")
        for place, called in (("run: on_output", on_output), ("run: on_input", on_input)):
            arguments.callback(called, place)
        number = self._cells = max(cell, self._cells + 1)
        request = execute_request(source, number, allow_stdin=on_input is not None)
        result = await self.follow(
            lambda sink: session.submit(request, sink), check=False, on_output=on_output, on_input=on_input
        )
        result.cell = number
        self.records.add(number, source, result.outputs)
        return result.check() if check else result

    async def value(self, name: str) -> Any:
        """A variable of the guest, by value, in a safe format; ``Conflict`` names the type of
        one that has none, or the name of one that is not there. In text and bytes the mark ``[secret NAME]``
        stands for a secret that the guest was given; an array or a table that holds one is a ``Conflict``."""
        from kernel_runtime.guest import values

        return values.decode(await self._open.get(arguments.variable(name, "value")))

    async def put(self, name: str, value: Any) -> None:
        """Set a variable of the guest to a copy of ``value``."""
        from kernel_runtime.guest import values

        await self._open.put(arguments.variable(name, "put"), values.encode(value))

    async def restart(self) -> None:
        """A fresh guest in milliseconds: variables and background work are gone."""
        await self._open.restart()
        self._cells = 0
        self.records = Records()

    async def usage(self) -> Usage:
        """What the guest uses now, measured from outside; also while a run goes on.
        ``usage.amounts["memory"]`` has what is used and the limit, by each limit's name."""
        return await self._open.usage()

    # -- capabilities ----------------------------------------------------------------------------

    async def revoke(self, scope: str) -> int:
        """Take back what was granted of exactly this scope, by ``allow`` or by a person: here, remembered, and in every
        other session of the same app that is open. How many grants there were here. What a policy file allows
        stays allowed."""
        broker = cast("SessionBroker", self._open.broker())
        return await broker.revoke(parse_scope(arguments.text(scope, "revoke", "a scope, like 'cache'")))

    # -- files -----------------------------------------------------------------------------------

    async def files(self) -> FileChanges:
        """What the guest has added, changed and removed in ``workdir``, in a layer of its own: the host's
        files are as they were. Also while a run goes on; ``print`` shows it."""
        return await self._open.files.changes()

    async def files_diff(self, path: str) -> str:
        """One of them beside the host's: a unified diff of text, sizes and digests of anything else."""
        return await self._open.files.diff(arguments.path(path, "files_diff"))

    async def files_keep(self, path: str) -> Outcome:
        """Make the host's file as the guest's is (a directory: all below, but hidden files and removals, which
        are kept by their own name). Links, pipes and devices that the guest made are refused."""
        return await self._open.files.keep(arguments.path(path, "files_keep"))

    async def files_drop(self, path: str = "") -> Outcome:
        """Make the guest's file as the host's is (a directory: all below; empty: everything)."""
        return await self._open.files.drop(arguments.path(path, "files_drop"))

    async def pause(self) -> int:
        """Stop everything in the guest and give back what memory the kernel can take; the next run
        goes on, and so does an interrupt of one that stands still. Returns bytes given back. A checkpoint that is
        being written is waited for, a minute at most: ``Conflict``."""
        return await self._open.pause()

    async def resume(self) -> None:
        """Let a paused guest go on."""
        self._open.resume()

    async def throttle(self, cpus: float | None) -> None:
        """Let it have so many cores' worth of CPU time from now on, at most its limit (None: its limit)."""
        self._open.throttle(arguments.share(cpus))

    async def kill(self) -> None:
        """End what runs in it now, without an interrupt first, and return when it has ended; the newest snapshot takes its
        place. While nothing runs that is the present state, where it can be copied within two seconds."""
        await self._open.kill()


def _accepted_rung(rung: Rung | str | None) -> Rung | None:
    text = rung or os.environ.get("KERNEL_RUNTIME_RUNG")
    return parse_rung(arguments.text(text, "rung", "a rung, like 'landlock'")) if text else None


def _blocked_by(
    policy: str, level: Level, directory: str, promised: Iterable[Rule]
) -> list[tuple[str, str, str]]:
    """What strict's language refuses beside the package's rules; what is wrong with a named policy is said at every level."""
    found = [(rule.kind, rule.pattern, rule.suggestion) for rule in promised]
    if level is not Level.STRICT and not policy:
        return found
    from kernel_runtime.broker.policies import check_sections  # only where there is one
    from kernel_runtime.guest.check_rules import blocked_by

    held = check_sections(Path(directory), os.environ) if level is Level.STRICT else []
    return [*blocked_by(policy, held), *found]

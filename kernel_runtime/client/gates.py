"""Gates and replay in Python, with the words of the magics ``%gate`` and ``%replay``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kernel_runtime.client import arguments
from kernel_runtime.client.opened import Opened, execute_request
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.workers.replay import Replay, replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime import wire
    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.result import Output, Result
    from kernel_runtime.workers.portal import Portal

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_FUNCTIONS = "the name of a function, like 'fit' or 'Model.fit'"
_VARIABLE = "the name of a local variable, like 'n'"
_EXPRESSION = "an expression, like 'len(rows)'"


class AsyncGates(Opened):
    """What an ``AsyncSession`` does with gates. A copy that was made at one is a snapshot: its number or name says which."""

    async def gate(self, function: str, condition: str = "", *, wait: bool = False) -> None:
        """Have the next call of ``function`` (for which the expression ``condition`` holds) make a frozen copy right
        there; the run goes on, or with ``wait`` ends there (``StoppedAtGate``). A gate goes off when it is reached.
        ``Invalid`` where there can be none, with the reason; while code runs it is set afterwards."""
        name = _function(function, "gate")
        condition = arguments.text(condition, "gate: condition", _EXPRESSION).strip()
        if "\n" in condition:
            raise Invalid(f"gate: the condition is more than one line: {condition!r}")
        await self._set(f"%gate {'--wait ' * wait}{name}{f' if {condition}' if condition else ''}")

    async def gate_off(self, function: str) -> None:
        """Give a function its own code back; ``Invalid`` where there is no gate in it."""
        await self._set(f"%gate off {_function(function, 'gate_off')}")

    async def _set(self, line: str) -> None:
        """In the guest, whose functions are meant."""
        request, session = execute_request(line), self._open
        result = await self.follow(lambda sink: session.submit(request, sink, keep=False), check=False)
        if result.error is not None and result.error.ename == "UsageError":
            raise Invalid(result.error.evalue)
        result.check()

    def gates(self) -> list[Snapshot]:
        """The copies that were made at gates, oldest first; ``gate`` of each says where."""
        return self._open.stops.listing()

    async def gate_show(self, copy: str | int) -> list[wire.Level]:
        """The calls at the gate, innermost first: the ``place`` of each, and its local variables as texts (``names``)."""
        return await self._open.stops.stack(arguments.title(copy, "gate_show"))

    async def gate_eval(self, copy: str | int, expression: str) -> str:
        """The text of an expression there; it changes nothing. ``Invalid`` with what it raised."""
        name = arguments.title(copy, "gate_eval")
        return await self._open.stops.evaluate(name, _filled(expression, "gate_eval", _EXPRESSION))

    async def gate_set(self, copy: str | int, variable: str, expression: str) -> str:
        """A local variable is to have another value when the copy goes on; returns the text of that value."""
        name = arguments.title(copy, "gate_set")
        if not arguments.text(variable, "gate_set", _VARIABLE).isidentifier():
            raise Invalid(f"gate_set: {variable!r} is not {_VARIABLE}")
        return await self._open.stops.set(name, variable, _filled(expression, "gate_set", _EXPRESSION))

    async def gate_resume(
        self,
        copy: str | int,
        *,
        check: bool = True,
        on_output: Callable[[Output], None] | None = None,
        on_input: Callable[[str, bool], str | None] | None = None,
    ) -> Result:
        """The copy becomes the live state and its run goes on to its end; as often as you like. Outputs are collected
        as for ``run``; ``redo`` brings the state back that was left."""
        session, name = self._open, arguments.title(copy, "gate_resume")
        return await self.follow(
            lambda sink: session.resume_gate(name, sink), check=check, on_output=on_output, on_input=on_input
        )

    async def gate_drop(self, copy: str | int) -> Snapshot:
        """Forget a copy."""
        session = self._open
        made = session.stops.find(arguments.title(copy, "gate_drop"))[0]
        return session.snapshots.drop(made.number)

    async def replay(self, cell: int, *, start: str | int | None = None) -> Replay:
        """Run a run again, by its number (``Result.cell``), on the state it first had, and see what differs in outputs
        and variables; ``print`` shows it. The present state is left alone; files that it writes are written again.
        ``start``: a snapshot to begin from instead, needed where that state is not kept any more (``NotFound``)."""
        begin = None if start is None else arguments.title(start, "replay: start")
        return await replay(self._open, self.records, arguments.whole(cell, "replay"), begin)


class Gates:
    """The same for callers that cannot await."""

    _session: AsyncGates
    _portal: Portal

    def gate(self, function: str, condition: str = "", *, wait: bool = False) -> None:
        """Have the next call of a function make a frozen copy there; see ``AsyncSession.gate``."""
        self._portal.call(self._session.gate(function, condition, wait=wait))

    def gate_off(self, function: str) -> None:
        """Give a function its own code back."""
        self._portal.call(self._session.gate_off(function))

    def gates(self) -> list[Snapshot]:
        """The copies that were made at gates, oldest first."""
        return self._session.gates()

    def gate_show(self, copy: str | int) -> list[wire.Level]:
        """The calls at the gate, with their local variables; see ``AsyncSession.gate_show``."""
        return self._portal.call(self._session.gate_show(copy))

    def gate_eval(self, copy: str | int, expression: str) -> str:
        """The text of an expression there; see ``AsyncSession.gate_eval``."""
        return self._portal.call(self._session.gate_eval(copy, expression))

    def gate_set(self, copy: str | int, variable: str, expression: str) -> str:
        """Another value for a local variable; see ``AsyncSession.gate_set``."""
        return self._portal.call(self._session.gate_set(copy, variable, expression))

    def gate_resume(
        self,
        copy: str | int,
        *,
        check: bool = True,
        on_output: Callable[[Output], None] | None = None,
        on_input: Callable[[str, bool], str | None] | None = None,
    ) -> Result:
        """Have a copy's run go on to its end; see ``AsyncSession.gate_resume`` and ``run``."""
        running = self._session.gate_resume(copy, check=check, on_output=on_output, on_input=on_input)
        return self._portal.call(running, on_interrupt=self._session.interrupt)

    def gate_drop(self, copy: str | int) -> Snapshot:
        """Forget a copy."""
        return self._portal.call(self._session.gate_drop(copy))

    def replay(self, cell: int, *, start: str | int | None = None) -> Replay:
        """Run a run again on the state it first had; see ``AsyncSession.replay``."""
        running = self._session.replay(cell, start=start)
        return self._portal.call(running, on_interrupt=self._session.interrupt)


def _function(name: object, place: str) -> str:
    found = arguments.text(name, place, _FUNCTIONS).strip()
    if _FUNCTION.fullmatch(found) is None:
        raise Invalid(f"{place}: {name!r} is not {_FUNCTIONS}")
    return found


def _filled(value: object, place: str, wanted: str) -> str:
    found = arguments.text(value, place, wanted)
    if not found.strip():
        raise Invalid(f"{place}: {value!r} is not {wanted}")
    return found

"""The broker of one session: calls are decided, with the person where they are to be asked, performed, and
written down.

What it answers a guest is plain data or an error that names what to ask for. A handler that crashes, a log that cannot
be written, a person who does not answer: the guest gets its answer, and the host goes on.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.broker.handler import Call, Performed
from kernel_runtime.broker.patience import AGAIN, PATIENCE, patiently
from kernel_runtime.broker.prompting import Prompting
from kernel_runtime.domain.bucket import Bucket
from kernel_runtime.domain.errors import (
    TOLD,
    CapabilityDenied,
    Invalid,
    KernelRuntimeError,
    StorageFailed,
)
from kernel_runtime.domain.question import question
from kernel_runtime.domain.rules import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kernel_runtime.broker.gate import Gate, Ticket
    from kernel_runtime.broker.handler import Handler
    from kernel_runtime.domain.decide import Request
    from kernel_runtime.domain.rules import Span
    from kernel_runtime.domain.scopes import Scope
    from kernel_runtime.ports import Person


#: Denials of one session that are written down at once, and for ever in a second.
DENIALS, DENIALS_A_SECOND = 1000, 20.0


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as the host knows it: whatever a handler puts into a request, this holds."""

    principal: str = ""
    tenant: str = ""
    session: str = ""


class Use(msgspec.Struct, kw_only=True):
    """What one capability came to in this session. ``seconds``: spent performing, people's time included."""

    calls: int = 0
    bytes: int = 0
    seconds: float = 0.0
    errors: int = 0
    denied: int = 0
    running: int = 0


class Broker:
    """See the module. ``handlers``: by capability, made when first called. ``person``: ``None`` where nobody
    can be asked. ``redact`` takes secrets out of the errors that a guest is told."""

    def __init__(
        self,
        gate: Gate,
        handlers: Mapping[str, Callable[[], Handler]],
        person: Person | None = None,
        *,
        caller: Caller = Caller(),  # noqa: B008 - frozen
        redact: Callable[[str], str] = str,
        patience: float = PATIENCE,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.gate = gate
        self.caller = caller
        self.usage: dict[str, Use] = {}
        self.prompting = None if person is None else Prompting(person)
        self._makers = handlers
        self._handlers: dict[str, Handler] = {}
        self._redact = redact
        self._patience = patience
        self._denials = Bucket(DENIALS_A_SECOND, DENIALS, time.monotonic())
        self._on_close = on_close
        self._calls: set[asyncio.Task[Any]] = set()
        self._accounts: set[asyncio.Task[Any]] = set()
        self._closed = False

    # -- calls -----------------------------------------------------------------------------------

    async def call(
        self, capability: str, action: str, arguments: dict[str, Any], parent: str = ""
    ) -> Performed:
        """See ``ports.Broker``."""
        del parent  # whose cell it is: the front's own person looks at what runs
        handler = self._handler(capability)
        call = Call(
            capability=capability,
            action=action,
            arguments=arguments,
            app=self.gate.manifest.id,
            principal=self.caller.principal,
            tenant=self.caller.tenant,
            session=self.caller.session,
        )
        use = self.usage.get(capability)
        if use is None:
            use = self.usage[capability] = Use()
        task = asyncio.current_task()
        if task is not None:
            self._calls.add(task)
        use.running += 1
        begun = time.monotonic()
        try:
            performed = await self._performed(handler, call)
            use.bytes += performed.size
            return performed
        except CapabilityDenied:
            use.denied += 1
            raise
        except Exception:
            use.errors += 1
            raise
        finally:
            use.calls += 1
            use.running -= 1
            use.seconds += time.monotonic() - begun
            if task is not None:
                self._calls.discard(task)

    async def _performed(self, handler: Handler, call: Call) -> Performed:
        """What the handler made of it, once that is written down."""
        tickets: list[Ticket] = []

        async def demand(request: Request) -> Ticket:
            ticket = await self.demand(request)
            tickets.append(ticket)
            return ticket

        begun = time.monotonic()
        try:
            performed = await handler.perform(call, demand)
        except asyncio.CancelledError:
            self._write_off(tickets, time.monotonic() - begun)
            raise
        except KernelRuntimeError as error:
            await self._note(tickets, 0, time.monotonic() - begun, str(error))
            raise _told(error, self._redact) from None
        except Exception:  # noqa: BLE001 - a handler's fault: the guest is not told what the host looks like
            print(self._redact(traceback.format_exc()), file=sys.stderr)
            await self._note(tickets, 0, time.monotonic() - begun, "the host's handler failed")
            raise KernelRuntimeError(
                f"{call.capability}: the host's handler failed; its log says how"
            ) from None
        try:
            if tickets:
                await self._note(tickets, performed.size, time.monotonic() - begun, "")
        except BaseException:
            performed.close()
            raise
        return performed

    def _handler(self, capability: str) -> Handler:
        if self._closed:
            raise KernelRuntimeError("the session is being closed")
        handler = self._handlers.get(capability)
        if handler is None:
            if capability not in self._makers:
                known = ", ".join(sorted(self._makers))
                raise Invalid(f"there is no capability {capability!r}; there are {known}")
            handler = self._handlers[capability] = self._makers[capability]()
        return handler

    # -- decisions -------------------------------------------------------------------------------

    async def demand(self, request: Request) -> Ticket:
        """An allowed ticket for one request, after asking the person where they are to be asked.

        Each denial is a record for ever: who is denied again and again is made to wait.
        """
        waited = self._denials.wait(time.monotonic()) > 0
        if waited:
            await asyncio.sleep(self._denials.owe(time.monotonic(), 1.0))
        try:
            ticket = await self._demanded(request)
        except CapabilityDenied:
            self._denials.owe(time.monotonic(), 0.0 if waited else 1.0)
            raise
        self._denials.owe(time.monotonic(), -1.0 if waited else 0.0)
        return ticket

    async def _demanded(self, request: Request) -> Ticket:
        caller = self.caller
        request = msgspec.structs.replace(
            request, principal=caller.principal, tenant=caller.tenant, session=caller.session
        )
        ticket = await self._ask(request)
        while ticket.decision.effect is Effect.ASK and self.prompting is not None:
            answer = await self.prompting.ask(question(self.gate.manifest, request, ticket.decision))
            # One answer is written down once; whoever asked the same is decided again, with what it granted.
            ticket = await (self._answered(ticket, answer.span) if answer.first else self._ask(request))
        ticket.demand()
        return ticket

    @property
    def denied(self) -> list[str]:
        """The scopes that the person has denied this session."""
        return [] if self.prompting is None else self.prompting.denied

    async def revoke(self, scope: Scope) -> int:
        """The person takes back grants of this scope, here and in all sessions of this app; how many there were here."""
        count = sum(grant.scope == scope for grant in self.gate.grants)
        await self._patiently(lambda: self.gate.revoke(scope))
        return count

    def account(self, ticket: Ticket, size: int, seconds: float, error: str) -> None:
        """Write down what came of something that was demanded here and done elsewhere: soon, if not now."""
        write = functools.partial(self.gate.performed, ticket, size=size, duration=seconds, error=error)
        try:
            write()
        except StorageFailed:
            task = asyncio.get_running_loop().create_task(self._accounted(write))
            self._accounts.add(task)
            task.add_done_callback(self._accounts.discard)

    async def _accounted(self, write: Callable[[], Any]) -> None:
        try:
            await self._patiently(write)
        except StorageFailed as error:
            print(self._redact(f"the proxy's requests are not counted: {error}"), file=sys.stderr)

    async def _ask(self, request: Request) -> Ticket:
        """The gate's ticket. A state that others write just now is waited for without holding the loop."""
        deadline = time.monotonic() + self._patience
        while True:
            ticket = self.gate.ask(request)
            if ticket.number or time.monotonic() >= deadline:
                return ticket
            await asyncio.sleep(AGAIN)

    async def _answered(self, ticket: Ticket, span: Span | None) -> Ticket:
        answered: Ticket = await self._patiently(lambda: self.gate.answer(ticket, span))
        return answered

    async def _note(self, tickets: list[Ticket], size: int, seconds: float, error: str) -> None:
        """Write down what came of it; the bytes count for what was demanded last."""
        for ticket in tickets:
            moved = size if ticket is tickets[-1] else 0
            write = functools.partial(self.gate.performed, ticket, size=moved, duration=seconds, error=error)
            await self._patiently(write)

    def _write_off(self, tickets: list[Ticket], seconds: float) -> None:
        """It was cancelled: written down if that can be done at once."""
        for ticket in tickets:
            try:
                self.gate.performed(ticket, duration=seconds, error="cancelled")
            except StorageFailed:
                return

    async def _patiently(self, write: Callable[[], Any]) -> Any:
        return await patiently(write, self._patience)

    # -- the end ---------------------------------------------------------------------------------

    async def close(self) -> None:
        """End every call that goes on, then let the handlers go; idempotent."""
        if self._closed:
            return
        self._closed = True
        if self.prompting is not None:
            self.prompting.close()
        calls = [task for task in self._calls if task is not asyncio.current_task()]
        for task in calls:
            task.cancel()
        if calls:
            await asyncio.wait(calls)
        if self._accounts:
            await asyncio.wait(self._accounts)
        for handler in self._handlers.values():
            try:
                await handler.close()
            except Exception:  # noqa: BLE001 - the others are to be closed, too
                print(self._redact(traceback.format_exc()), file=sys.stderr)
        self._on_close()


def _told(error: KernelRuntimeError, redact: Callable[[str], str]) -> KernelRuntimeError:
    """The error as a guest may be told it."""
    kind = type(error) if type(error) in TOLD else KernelRuntimeError
    return kind(redact(str(error)))

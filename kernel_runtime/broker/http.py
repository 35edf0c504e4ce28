"""Requests of HTTP for guests, performed on the host: each hop decided, each address checked.

A redirect is a request of its own, decided again; what may say who asks does not follow it to another
origin. Only what may be repeated without harm is tried again.
"""

from __future__ import annotations

import asyncio
import random
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from kernel_runtime.broker import content, credentials, headers
from kernel_runtime.broker.flow import Meter, as_it_goes
from kernel_runtime.broker.handler import Performed
from kernel_runtime.broker.late import imported
from kernel_runtime.broker.reach import reach
from kernel_runtime.broker.resolver import Resolver
from kernel_runtime.broker.target import Target, parse_url, with_params
from kernel_runtime.domain.amounts import MIB, show_amount
from kernel_runtime.domain.errors import CapabilityDenied, Invalid, LimitExceeded, OutsideFailed

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    import httpcore

    from kernel_runtime.broker.credentials import Credential, Secrets
    from kernel_runtime.broker.flow import Carry
    from kernel_runtime.broker.handler import Call, Demand
    from kernel_runtime.broker.pinned import Connections
    from kernel_runtime.broker.reach import Reached
    from kernel_runtime.domain.verdict import Verdict

MAX_BYTES, MAX_SECONDS = 48 * MIB, 300.0
_USUAL_BYTES, _USUAL_SECONDS = 16 * MIB, 30.0
_MOST_REDIRECTS, _ATTEMPTS, _FIRST_DELAY = 10, 3, 0.1
_CONNECT_SECONDS = 15.0
_METHOD = re.compile(r"[A-Z]{1,20}")
_UNSAID = frozenset({"CONNECT", "TRACE"})
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_LATER = frozenset({502, 503, 504})
_KNOWN = frozenset({
    "method", "url", "params", "headers", "content", "data", "json", "timeout", "credential", "max_bytes",
})  # fmt: skip


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as it is to be decided and sent. ``credential``: the name of a secret."""

    method: str
    target: Target
    headers: list[tuple[str, str]]
    content: bytes
    credential: str | None
    max_bytes: int

    def redirected(self, status: int, location: str) -> Step:
        """The request that an answer asks for instead."""
        target = self.target.joined(location)
        step = msgspec.structs.replace(self, target=target)
        if status == 303 or (status in (301, 302) and self.method == "POST"):
            method = "HEAD" if self.method == "HEAD" else "GET"
            kept = headers.without_body(self.headers)
            step = msgspec.structs.replace(step, method=method, content=b"", headers=kept)
        if target.origin != self.target.origin:
            kept = headers.across_origins(step.headers)
            step = msgspec.structs.replace(step, headers=kept, credential=None)
        return step


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, without the values of secrets."""

    status: int
    headers: dict[str, str]
    content: bytes


class Http:
    """The handler ``http``. ``secrets``: the value of a secret by name; ``context``: TLS other than usual;
    ``carry``: before bytes move (``Account.carried``)."""

    name = "http"

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        secrets: Secrets | None = None,
        context: ssl.SSLContext | None = None,
        backoff: float = _FIRST_DELAY,
        carry: Carry = as_it_goes,
    ) -> None:
        self._resolver = resolver or Resolver()
        self._secrets = secrets
        self._context = context
        self._backoff = backoff
        self.carry = carry
        self._connections: Connections | None = None

    async def perform(self, call: Call, demand: Demand) -> Performed:
        """``request``: one request and its redirects."""
        if call.action != "request":
            raise Invalid(f"http knows no action {call.action[:100]!a}; there is request")
        step, seconds = _wanted(call.arguments)
        journey = _Journey(self, demand)
        try:
            async with asyncio.timeout(seconds):
                return await journey.follow(step)
        except TimeoutError:
            raise OutsideFailed(f"{step.target.authority} took longer than {seconds:g} s (timeout)") from None
        except LimitExceeded as error:
            raise CapabilityDenied(f"{step.target.authority}: {_used_up(error.verdict)}") from None

    async def close(self) -> None:
        """Idempotent."""
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.close()

    async def reach(self, step: Step, demand: Demand) -> Reached:
        """Have one request decided, and its addresses looked at."""
        return await reach(step.target, step.method, demand, self._resolver, len(step.content))

    async def credential(self, step: Step, demand: Demand) -> Credential | None:
        """What is added to one request on this side."""
        if step.credential is None:
            return None
        return await credentials.granted(step.credential, step.target, demand, self._secrets)

    async def wait(self, attempt: int) -> None:
        """Longer each time, and never in step with others."""
        await asyncio.sleep(self._backoff * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - no secret

    @asynccontextmanager
    async def exchange(
        self, step: Step, reached: Reached, extra: list[tuple[str, str]]
    ) -> AsyncIterator[httpcore.Response]:
        """Send one request; raises what is in ``pinned.TROUBLE``."""
        import httpx

        from kernel_runtime.broker.pinned import Connections

        if self._connections is None:
            self._connections = Connections(self._context)
        own = {name.lower() for name, _ in extra}
        given = [(name, value) for name, value in headers.to_send(step.headers) if name.lower() not in own]
        request = httpx.Request(
            step.method,
            f"{step.target.scheme}://{step.target.authority}/",
            headers=[
                (name.encode(), value.encode("latin-1"))
                for name, value in (("Host", step.target.authority), *given, *extra)
            ],
            content=step.content or None,
            extensions={"timeout": {"connect": _CONNECT_SECONDS}},
        )
        async with self._connections.send(request, reached) as answer:
            yield answer


class _Journey:
    """One call: a request, its redirects, its attempts; and the secrets that were used on the way."""

    def __init__(self, handler: Http, demand: Demand) -> None:
        self._handler = handler
        self._demand = demand
        self._used: dict[str, Credential] = {}
        self._moved = 0
        self._meter = Meter(handler.carry)

    async def follow(self, step: Step) -> Performed:
        """The answer that is no redirect."""
        for hop in range(_MOST_REDIRECTS + 1):
            try:
                answer = await self._attempt(step)
            except CapabilityDenied as error:
                if hop:
                    raise CapabilityDenied(f"a redirect leads to {error}") from None
                raise
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not location:
                return Performed(value=_as_value(step, answer), size=self._moved)
            step = self._redirected(step, answer.status, location)
        raise OutsideFailed(f"{step.target.authority}: more than {_MOST_REDIRECTS} redirects")

    def _redirected(self, step: Step, status: int, location: str) -> Step:
        try:
            return step.redirected(status, location)
        except Invalid as error:
            raise OutsideFailed(
                f"{step.target.authority} redirects to where nobody may go: {error}"
            ) from None

    async def _attempt(self, step: Step) -> Answer:
        """One request, tried again if nothing can have come of it and it may be repeated."""
        attempts = _ATTEMPTS if step.method in _IDEMPOTENT else 1
        for attempt in range(attempts):
            last = attempt == attempts - 1
            answer = await self._once(step, last)
            if answer is not None and (last or answer.status not in _TRY_LATER):
                return answer
            await self._handler.wait(attempt)
        raise AssertionError

    async def _once(self, step: Step, last: bool) -> Answer | None:
        """``None``: there was no answer, and there may be another attempt."""
        credential = await self._handler.credential(step, self._demand)
        reached = await self._handler.reach(step, self._demand)  # last: its ticket is charged with the bytes
        extra = [] if credential is None else [credential.header]
        if credential is not None:
            self._used[credential.name] = credential
        await imported("kernel_runtime.broker.pinned")
        from kernel_runtime.broker import pinned

        await self._meter.moved(len(step.content))
        try:
            async with self._handler.exchange(step, reached, extra) as answer:
                return await self._read(step, answer)
        except pinned.TROUBLE as error:
            if isinstance(error, pinned.UNANSWERED) and not last:
                return None
            raise OutsideFailed(self._without_secrets(pinned.failure(reached, error))) from None

    async def _read(self, step: Step, answer: httpcore.Response) -> Answer:
        raw = {name.lower(): value for name, value in answer.headers}
        encoding = raw.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        body, came = await content.read(self._metered(answer), step.max_bytes, encoding)
        self._moved += came + len(step.content)
        if self._used and encoding not in ("", "identity", *content.PACKED):
            raise OutsideFailed(f"the answer is encoded as {encoding[:40]!a}: no secret could be found in it")
        told = headers.told(answer.headers, undone=encoding in content.PACKED)
        for credential in self._used.values():
            body = await asyncio.to_thread(credential.redactor.bytes, body)  # seconds, if it is large
        told = {name: self._without_secrets(value) for name, value in told.items()}
        return Answer(status=answer.status, headers=told, content=body)

    async def _metered(self, answer: httpcore.Response) -> AsyncIterator[bytes]:
        async for piece in answer.aiter_stream():
            await self._meter.moved(len(piece))
            yield piece

    def _without_secrets(self, text: str) -> str:
        for credential in self._used.values():
            text = credential.redactor.text(text)
        return text


def _used_up(met: Verdict) -> str:
    limit = show_amount("network", met.limit)
    return f"more than the {limit} that this session may move over the network in all (its limit `network`)"


def _as_value(step: Step, answer: Answer) -> dict[str, Any]:
    return {
        "status": answer.status,
        "headers": answer.headers,
        "content": answer.content,
        "url": str(step.target),
    }


def _wanted(given: dict[str, Any]) -> tuple[Step, float]:
    """The first request, and the seconds that all may take."""
    if unknown := given.keys() - _KNOWN:
        raise Invalid(f"a request has no {min(unknown)[:100]!a}; it has {', '.join(sorted(_KNOWN))}")
    method = given.get("method") or "GET"
    if not isinstance(method, str) or not _METHOD.fullmatch(method.upper()) or method.upper() in _UNSAID:
        raise Invalid("the method of a request is a word like GET, and neither CONNECT nor TRACE")
    body, kind = _body(given)
    sent = headers.checked(given.get("headers") or {})
    if kind and "content-type" not in {name.lower() for name, _ in sent}:
        sent.append(("Content-Type", kind))
    step = Step(
        method=method.upper(),
        target=_target(given.get("url"), given.get("params")),
        headers=sent,
        content=body,
        credential=given.get("credential"),
        max_bytes=int(_amount(given, "max_bytes", _USUAL_BYTES, MAX_BYTES)),
    )
    return step, _amount(given, "timeout", _USUAL_SECONDS, MAX_SECONDS)


def _target(url: object, params: object) -> Target:
    if not isinstance(url, str):
        raise Invalid("a request has a url, a text")
    return parse_url(with_params(url, _pairs(params, "params")))


def _pairs(given: Any, name: str) -> list[tuple[str, str]]:
    """A map, or names and values in their order."""
    items = given.items() if isinstance(given, dict) else given or ()
    try:
        return [(str(key), str(value)) for key, value in items]
    except (TypeError, ValueError):
        raise Invalid(f"{name} are a map of text to text, or pairs") from None


def _body(given: dict[str, Any]) -> tuple[bytes, str]:
    """The content and its type: ``content`` or ``data`` as they are, ``data`` as a form, ``json`` encoded here."""
    named = [name for name in ("content", "data", "json") if given.get(name) is not None]
    if len(named) > 1:
        raise Invalid(f"a request has one content, not {' and '.join(named)}")
    body = given[named[0]] if named else b""
    if named == ["json"]:
        try:
            return msgspec.json.encode(body), "application/json"
        except (TypeError, ValueError) as error:
            raise Invalid(f"this is no JSON: {error}") from None
    if isinstance(body, str):
        return body.encode(), ""
    if isinstance(body, (bytes, bytearray)):
        return bytes(body), ""
    if named == ["data"]:
        return urlencode(_pairs(body, "data")).encode(), "application/x-www-form-urlencoded"
    raise Invalid("the content of a request is bytes or text")


def _amount(given: dict[str, Any], name: str, usual: float, most: float) -> float:
    amount = given.get(name)
    if amount is None:
        return usual
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 < amount <= most:
        raise Invalid(f"{name} is a number, more than 0 and at most {most:g}")
    return amount

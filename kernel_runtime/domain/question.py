"""A question to the person: a request that no rule and no grant decides, and all they need to answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.addresses import why_closed
from kernel_runtime.domain.decide import Decision, Request
from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.domain.scopes import Kind

if TYPE_CHECKING:
    from kernel_runtime.domain.manifest import Manifest

#: Characters of a reason of the manifest's that are shown, and how many reasons: they are the guest's words.
MAX_WHY, MAX_WHYS = 300, 3


class Unanswered(CapabilityDenied):
    """The person was asked, and what they said was no answer: no denial either."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """``request`` is what is asked for, ``rule`` what wants it asked, for ``reason``.

    ``app`` is the manifest's name and ``version`` its own; ``why``: what the manifest gives as reasons, in the
    app's own words, to be shown as a quotation and never as ours. ``seconds``: how long the answer is waited for.
    """

    request: Request
    rule: str
    reason: str
    app: str = ""
    version: str = ""
    why: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def what(self) -> str:
        """The scope, as it would stand in a policy."""
        return str(self.request.scope)

    @property
    def warning(self) -> str:
        """What the person should know of an address that is not the open internet; empty otherwise."""
        scope = self.request.scope
        try:
            kind = why_closed(scope.target) if scope.kind is Kind.NET else ""
        except ValueError:
            return ""
        return f"{scope.target} is {kind}, not the open internet" if kind else ""

    @property
    def key(self) -> tuple[str, ...]:
        """The same for questions that one answer is for."""
        request = self.request
        return (self.what, request.principal, request.tenant, request.session)


def question(manifest: Manifest, request: Request, decision: Decision) -> Question:
    """What to ask about a request whose decision is to ask."""
    asks = [] if manifest.asks is None else manifest.asks.covering(request.scope)
    why = dict.fromkeys(_line(ask.reason) for ask in asks if ask.reason)
    return Question(
        request=request,
        rule=decision.rule,
        reason=decision.reason,
        app=_line(manifest.name),
        version=_line(manifest.said_version),
        why=tuple(why)[:MAX_WHYS],
    )


def _line(text: str) -> str:
    """Of somebody else's text one short line of printable characters."""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_WHY])

"""``input()`` and ``getpass()``: the guest's prompts to the client that runs the cell."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.jupyter.contents import encode
from kernel_runtime.jupyter.page_text import clean_terminal
from kernel_runtime.jupyter.requests import Input, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.jupyter.messages import Message, Scribe

MAX_PROMPT = 2000
#: A password is asked for by foreign code: the person should know before typing one.
MARK = "[sandboxed code asks] "


class _Parent(msgspec.Struct):
    msg_id: str = ""


class _Asked(msgspec.Struct):
    """``answer``: of a question of the front's own; else the guest waits for ``ask``."""

    ask: str
    request: str
    identities: list[bytes]
    answer: Any = None


class Prompts:
    """Prompts that are open, by the id of their input_request."""

    def __init__(
        self, scribe: Scribe, send: Callable[[list[bytes]], None], answer: Callable[[wire.Answer], None]
    ) -> None:
        self._scribe = scribe
        self._send = send
        self._answer = answer
        self._open: dict[str, _Asked] = {}
        self._closed = asyncio.Event()

    def ask(self, frame: wire.Ask, message: Message) -> None:
        """Send an input_request to the client that sent ``message``."""
        if self._has_question(message.identities):
            self.refuse(frame)  # a client shows one prompt at a time, and ours is not to be mixed up with it
            return
        self._withdraw_guests(message.id)  # a shell has one prompt at a time
        prompt = shown_prompt(frame.prompt, password=frame.password)
        self._ask(prompt, message, _Asked(frame.id, message.id, message.identities), frame.password)

    async def question(self, text: str, message: Message) -> str:
        """Ask the client that sent ``message`` something of the front's own, after what it is asked by now."""
        while self._last_of(message.identities) is not None:
            self._closed.clear()
            await self._closed.wait()
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        key = self._ask(text, message, _Asked("", message.id, message.identities, answer))
        try:
            return await answer
        except asyncio.CancelledError:
            if not answer.cancelled() or key in self._open:
                raise
            raise CapabilityDenied("the cell ended before the person had answered") from None
        finally:
            self._close(key)

    def _ask(self, prompt: str, message: Message, asked: _Asked, password: bool = False) -> str:
        content = encode({"prompt": prompt, "password": password})
        parts = self._scribe.write("input_request", content, message.raw)
        request = msgspec.json.decode(parts[2], type=_Parent).msg_id
        self._open[request] = asked
        self._send([*message.identities, *parts])
        return request

    def refuse(self, frame: wire.Ask) -> None:
        """No person is there to answer."""
        self._answer(wire.Answer(id=frame.id, text=None))

    def reply(self, message: Message) -> None:
        """An input_reply goes to the prompt it names, else to the client's last one."""
        if message.kind != "input_reply":
            return
        named = msgspec.json.decode(message.parent or b"{}", type=_Parent).msg_id
        key = named if named in self._open else self._last_of(message.identities)
        if key is not None:
            asked, text = self._open[key], read(message, Input).value
            self._close(key)
            if asked.answer is None:
                self._answer(wire.Answer(id=asked.ask, text=text))
            elif not asked.answer.done():
                asked.answer.set_result(text)

    def withdraw(self, request: str) -> None:
        """The request is over: late answers to its prompts are dropped."""
        self._withdraw_guests(request)
        for key in [key for key, asked in self._open.items() if asked.request == request]:
            answer = self._open[key].answer
            self._close(key)
            answer.cancel()

    def _withdraw_guests(self, request: str) -> None:
        for key in [
            k for k, asked in self._open.items() if asked.request == request and asked.answer is None
        ]:
            self._close(key)

    def _close(self, key: str) -> None:
        self._open.pop(key, None)
        self._closed.set()

    def _has_question(self, identities: list[bytes]) -> bool:
        return any(a.answer is not None and a.identities == identities for a in self._open.values())

    def _last_of(self, identities: list[bytes]) -> str | None:
        mine = [key for key, asked in self._open.items() if asked.identities == identities]
        return mine[-1] if mine else None


def shown_prompt(text: str, *, password: bool) -> str:
    """A guest's prompt as a person sees it: bounded, without escapes, marked when it asks for a secret."""
    text = clean_terminal(text[-MAX_PROMPT:]).replace("\r", "").replace("\b", "")
    return MARK + text.replace("\n", " ") if password else text

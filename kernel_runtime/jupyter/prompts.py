"""``input()`` and ``getpass()``: the guest's prompts to the client that runs the cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime import wire
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
    ask: str
    request: str
    identities: list[bytes]


class Prompts:
    """Prompts that are open, by the id of their input_request."""

    def __init__(
        self, scribe: Scribe, send: Callable[[list[bytes]], None], answer: Callable[[wire.Answer], None]
    ) -> None:
        self._scribe = scribe
        self._send = send
        self._answer = answer
        self._open: dict[str, _Asked] = {}

    def ask(self, frame: wire.Ask, message: Message) -> None:
        """Send an input_request to the client that sent ``message``."""
        self.withdraw(message.id)  # a shell has one prompt at a time
        prompt = shown_prompt(frame.prompt, password=frame.password)
        content = encode({"prompt": prompt, "password": frame.password})
        parts = self._scribe.write("input_request", content, message.raw)
        request = msgspec.json.decode(parts[2], type=_Parent).msg_id
        self._open[request] = _Asked(frame.id, message.id, message.identities)
        self._send([*message.identities, *parts])

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
            asked = self._open.pop(key)
            self._answer(wire.Answer(id=asked.ask, text=read(message, Input).value))

    def withdraw(self, request: str) -> None:
        """The request is over or asks anew: late answers to its prompts are dropped."""
        for key in [key for key, asked in self._open.items() if asked.request == request]:
            del self._open[key]

    def _last_of(self, identities: list[bytes]) -> str | None:
        mine = [key for key, asked in self._open.items() if asked.identities == identities]
        return mine[-1] if mine else None


def shown_prompt(text: str, *, password: bool) -> str:
    """A guest's prompt as a person sees it: bounded, without escapes, marked when it asks for a secret."""
    text = clean_terminal(text[-MAX_PROMPT:]).replace("\r", "").replace("\b", "")
    return MARK + text.replace("\n", " ") if password else text

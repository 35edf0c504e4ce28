"""What of a guest's output may pass: one gate, ``admit``.

The front calls it for every validated content before it is signed. The rules of the page hold at
all levels; levels differ in the payloads that let a guest act in the person's notebook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.level import Level
from kernel_runtime.jupyter import page_text
from kernel_runtime.jupyter.cleaning import clean_bundle, clean_metadata
from kernel_runtime.jupyter.contents import (
    CommData,
    CommOpen,
    CompleteReply,
    Content,
    Display,
    ExecuteReply,
    Fault,
    InspectReply,
    Trouble,
)
from kernel_runtime.jupyter.page_hosts import Page
from kernel_runtime.jupyter.page_states import States

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from kernel_runtime.jupyter.contents import Object
    from kernel_runtime.jupyter.page_states import Told
    from kernel_runtime.jupyter.page_widgets import Widgets

#: Comm targets with this prefix belong to the front.
FRONT_TARGET = "kernel_runtime."
#: Comms a guest may open; the second is where a page asks for all models at once.
WIDGET_TARGET, CONTROL_TARGET = "jupyter.widget", "jupyter.widget.control"
#: Payloads of an execute_reply and the levels that let them pass: ``set_next_input`` writes
#: into the person's next cell, ``edit`` and ``edit_magic`` open a file of theirs, ``ask_exit`` ends
#: the kernel: that is the person's decision, not the guest's.
PAYLOADS: dict[str, frozenset[Level]] = {
    "page": frozenset(Level),
    "set_next_input": frozenset({Level.MODERATE, Level.PERMISSIVE}),
    "edit_magic": frozenset({Level.PERMISSIVE}),
    "edit": frozenset({Level.PERMISSIVE}),
    "ask_exit": frozenset({Level.MODERATE, Level.PERMISSIVE}),
}
_TYPES = "_jupyter_types_experimental"


def admit(kind: str, content: Content, level: Level) -> Content | None:
    """``content`` as it may pass where no comm is involved; see ``Gate``."""
    return Gate(level).admit(kind, content, [])


class Gate:
    """The rules for one guest, and what they have to remember of it: its widgets. ``others``: the
    ids of comms that are not the guest's."""

    def __init__(
        self, level: Level, hosts: frozenset[str] = frozenset(), others: Collection[str] = ()
    ) -> None:
        self.level = level
        self._others = others
        self.page = Page(hosts, frames=level is not Level.STRICT)
        self.states = States()
        self._widgets: Widgets | None = None

    @property
    def widgets(self) -> Widgets:
        """The guest's widgets; ipywidgets is imported with the first."""
        if self._widgets is None:
            from kernel_runtime.jupyter.page_widgets import Widgets

            focus = self.level is not Level.STRICT
            self._widgets = Widgets(self.page, self._others, focus=focus, held=self.states)
        return self._widgets

    def guest_died(self) -> None:
        """Its widgets take no more changes. Which of them live on in a snapshot, only that one can tell."""
        self._widgets = None
        self.states.lose()

    def told(self) -> tuple[Object, list[list[Any]], list[bytes]]:
        """What the page was told of the guest's models: states, paths of buffers, and these."""
        return ({}, [], []) if self._widgets is None else self._widgets.all_told()

    def told_of(self, model: str) -> Told | None:
        """Of one of them."""
        return None if self._widgets is None else self._widgets.told(model)

    def heard(self, kind: str, model: str, data: Object, buffers: list[bytes]) -> None:
        """What a page tells the guest of a model: so it stands in the page."""
        if self._widgets is None:
            return
        if kind == "comm_close":
            self._widgets.close(model)
        elif data.get("method") == "update":
            self._widgets.message(model, data, buffers)

    def admit(
        self, kind: str, content: Content, buffers: list[bytes], target: str | None = None
    ) -> Content | None:
        """``content`` as it may pass, changed in place with its buffers; None: nothing of it.

        ``target`` names what a comm that is open was opened for (None: it is not open).
        """
        if isinstance(content, Display):
            models = self._widgets if self._widgets is not None else ()
            content.data = clean_bundle(content.data, content.metadata, self.page, models)
            content.metadata = clean_metadata(content.metadata)
        elif isinstance(content, CommOpen):
            return self._opens(content, buffers)
        elif isinstance(content, CommData):
            return self._says(kind, content, buffers, target)
        else:
            self._answers(content)
        return content

    def _answers(self, content: Content) -> None:
        if isinstance(content, Trouble | Fault | ExecuteReply):
            _clean_trouble(content)
        if isinstance(content, ExecuteReply):
            content.payload = [
                payload
                for each in admit_payloads(content.payload, self.level)
                if (payload := self._payload(each)) is not None
            ]
            content.user_expressions = {
                name: self._expression(each) for name, each in content.user_expressions.items()
            }
        elif isinstance(content, InspectReply):
            content.data = clean_bundle(content.data, content.metadata, self.page)
            content.metadata = clean_metadata(content.metadata)
        elif isinstance(content, CompleteReply):
            content.metadata = _completion_types(content.metadata)

    # -- comms ---------------------------------------------------------------------------------

    def _opens(self, content: CommOpen, buffers: list[bytes]) -> Content | None:
        if content.comm_id in self._others:
            return None
        if content.target_name != WIDGET_TARGET or content.comm_id in self.widgets:
            return None
        content.target_module = None
        content.data = self.widgets.open(content.comm_id, content.data, buffers)
        return content

    def _says(self, kind: str, content: CommData, buffers: list[bytes], target: str | None) -> Content | None:
        if target is None or content.comm_id in self._others:
            return None
        if kind == "comm_close":
            if self._widgets is not None:
                self._widgets.close(content.comm_id)
            return content
        passed: Object | None = content.data
        if target == WIDGET_TARGET:
            passed = self.widgets.message(content.comm_id, content.data, buffers)
        elif target == CONTROL_TARGET:
            passed = self.widgets.states(content.data, buffers)
        if passed is None:
            return None
        content.data = passed
        return content

    # -- replies -------------------------------------------------------------------------------

    def _payload(self, payload: Object) -> Object | None:
        """A payload with the fields its source has, each of its type."""
        match payload:
            case {"source": "page", "data": dict() as data}:
                start = payload.get("start")
                return {
                    "source": "page",
                    "data": clean_bundle(data, None, self.page),
                    "start": start if isinstance(start, int) else 0,
                }
            case {"source": "set_next_input", "text": str() as text}:
                return {
                    "source": "set_next_input",
                    "text": page_text.clean_terminal(text),
                } | ({"replace": True} if payload.get("replace") is True else {})
            case {"source": "edit" | "edit_magic" | "ask_exit"}:
                return payload
        return None

    def _expression(self, result: Any) -> Any:
        if not isinstance(result, dict):
            return {"status": "error", "ename": "TypeError", "evalue": "no result", "traceback": []}
        if result.get("status") == "ok":
            data, metadata = (_mapping(result.get(part)) for part in ("data", "metadata"))
            return {
                "status": "ok",
                "data": clean_bundle(data, metadata, self.page),
                "metadata": clean_metadata(metadata),
            }
        lines = result.get("traceback")
        return {
            "status": "error",
            "ename": page_text.clean_terminal(str(result.get("ename", ""))),
            "evalue": page_text.clean_terminal(str(result.get("evalue", ""))),
            "traceback": [page_text.clean_terminal(str(each)) for each in lines]
            if isinstance(lines, list)
            else [],
        }


def admit_payloads(payloads: Iterable[Object], level: Level) -> list[Object]:
    """The payloads the level lets pass, in order; unknown sources never."""
    return [
        payload
        for payload in payloads
        if isinstance(source := payload.get("source"), str) and level in PAYLOADS.get(source, ())
    ]


def _clean_trouble(content: Trouble | Fault | ExecuteReply) -> None:
    for name in ("ename", "evalue"):
        text = getattr(content, name)
        if isinstance(text, str):
            setattr(content, name, page_text.clean_terminal(text))
    if isinstance(content.traceback, list):
        content.traceback = [page_text.clean_terminal(line) for line in content.traceback]


def _completion_types(metadata: Object) -> Object:
    """What completers draw beside a match: a type and a signature, as text."""
    items = metadata.get(_TYPES)
    if not isinstance(items, list):
        return {}
    keep = {"start": int, "end": int, "text": str, "type": str, "signature": str}
    return {
        _TYPES: [
            {name: item[name] for name, kind in keep.items() if isinstance(item.get(name), kind)}
            for item in items
            if isinstance(item, dict)
        ]
    }


def _mapping(value: Any) -> Object:
    return value if isinstance(value, dict) else {}

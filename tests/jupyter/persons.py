"""The person of a kernel that runs in this process, for what stands in for a broker in tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.question import Question
from kernel_runtime.domain.scopes import parse_request
from kernel_runtime.jupyter import cells

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.jupyter.panels.asking import Asking

_lines: list[cells.Cells] = []
_make = cells.Cells.__init__


def _noting(self: cells.Cells, *arguments: Any) -> None:
    _make(self, *arguments)
    _lines.append(self)


cells.Cells.__init__ = _noting


def person() -> Asking:
    """Who is asked."""
    return _lines[-1].person


def asked(text: str = "net:api.example.org/GET", **fields: Any) -> Question:
    """A question of the notebook's."""
    request = Request(scope=parse_request(text), principal="ann", session="s1")
    said = {
        "rule": "the policy's default",
        "reason": "no rule speaks of it",
        "app": "Weather",
        "version": "1.2",
        "why": ("to fetch forecasts",),
        "seconds": 3600.0,
    }
    return Question(request=request, **(said | fields))


def spoofs(model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a guest would say to press, change, take over and close a model of the front's."""
    data: list[dict[str, Any]] = [
        {"method": "custom", "content": {"event": "click"}},
        {"method": "update", "state": {"disabled": False, "description": "Deny"}},
    ]
    for each in data:
        yield "comm_msg", {"comm_id": model, "data": each}
    state = {"_model_module": "@jupyter-widgets/controls", "_view_module": "@jupyter-widgets/controls"}
    state |= {"_model_name": "ButtonModel", "_view_name": "ButtonView"}
    yield "comm_open", {"comm_id": model, "target_name": "jupyter.widget", "data": {"state": state}}
    yield "comm_close", {"comm_id": model, "data": {}}

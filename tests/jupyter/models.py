"""Models of widgets as a guest would send them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel_runtime.jupyter.page_widgets import Widgets

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()


def state_of(name: str, module: str = "@jupyter-widgets/controls", **values: object) -> dict:
    return {"_model_module": module, "_model_name": f"{name}Model", "_model_module_version": "2.0.0",
            "_view_module": module, "_view_name": f"{name}View", "_view_module_version": "2.0.0", **values}  # fmt: skip


def opened(
    widgets: Widgets, model: str, state: dict, paths: list | None = None, buffers: list | None = None
) -> dict:
    return widgets.open(
        model, {"state": state, "buffer_paths": paths or []}, [] if buffers is None else buffers
    )["state"]


def update(
    widgets: Widgets, model: str, paths: list | None = None, buffers: list | None = None, **state: object
):
    data = {"method": "update", "state": state, "buffer_paths": paths or []}
    found = widgets.message(model, data, [] if buffers is None else buffers)
    return None if found is None else found["state"]

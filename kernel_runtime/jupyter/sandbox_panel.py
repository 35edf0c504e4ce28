"""``%sandbox resources``: the panel of resources over the guests of ``%%sandbox``, in any Jupyter kernel.

It lives in the thread of the guests' own loop, so that it goes on while a cell holds the kernel. What is
pressed meanwhile arrives when that cell has ended: then the kernel hands it over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Conflict, NotFound
from kernel_runtime.jupyter.cleaning import WIDGET

if TYPE_CHECKING:
    from kernel_runtime.jupyter.guests import Guests
    from kernel_runtime.jupyter.panels.resource_view import ResourceView, Watched


def watched(guests: Guests) -> dict[str, Watched]:
    """The guests that live, by name."""
    found: dict[str, Watched] = {}
    for name in guests.names():
        try:
            found[name] = guests.get(name).watched
        except (Conflict, NotFound):  # it was ended just now
            continue
    return found


def resources(guests: Guests) -> dict[str, Any]:
    """What the cell displays."""
    from kernel_runtime.client import in_the_loop

    view = in_the_loop(_opened(guests))
    plain, html = view.still()
    shown = {"version_major": 2, "version_minor": 0, "model_id": view.root.model_id}
    return {"text/plain": plain, "text/html": html, WIDGET: shown}


async def _opened(guests: Guests) -> ResourceView:
    from kernel_runtime.jupyter.panels.resource_view import ResourceView

    view = ResourceView(lambda: watched(guests))
    await view.look()
    return view

"""Clients of HTTP that have to be told of the proxy, which is the only way out of a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from kernel_runtime.guest.imports import Words


def _tell_aiohttp(module: ModuleType) -> None:
    """A session looks for proxies in the environment, as other clients do, unless it is told not to."""
    init = module.__dict__["ClientSession"].__init__
    init.__kwdefaults__ = {**init.__kwdefaults__, "trust_env": True}


LIBRARIES: Words = {"aiohttp.client": _tell_aiohttp}

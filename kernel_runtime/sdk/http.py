"""Requests over HTTP, made by the host. Asks for ``net:<host>[:port]/<METHOD>``.

    from kernel_runtime.sdk import http

    http.get("https://api.example.org/items", params={"page": 2}, credential="api-token").json()
    await http.aget("https://api.example.org/items")

``credential``: the name of a secret that the host adds to the request; it never comes in here.
"""

from __future__ import annotations

import json as _json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.sdk.door import Ask, both

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Params = Mapping[str, Any] | Sequence[tuple[str, Any]]
    Data = str | bytes | Mapping[str, Any]

__all__ = [
    *("Response", "adelete", "aget", "apatch", "apost", "aput", "arequest"),
    *("delete", "get", "patch", "post", "put", "request"),
]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Response:
    """What the server answered. ``headers``: names in small letters; ``url``: after redirects."""

    status: int
    headers: dict[str, str]
    content: bytes
    url: str = ""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 400

    @property
    def text(self) -> str:
        """The content as text, in the charset that the server names."""
        _, _, charset = self.headers.get("content-type", "").lower().partition("charset=")
        try:
            return self.content.decode(charset.split(";")[0].strip(' "') or "utf-8", "replace")
        except LookupError:
            return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The content, read as JSON."""
        return _json.loads(self.content)

    def raise_for_status(self) -> Response:
        """Itself, or an error for a status of 400 and above."""
        if not self.ok:
            raise KernelRuntimeError(f"{self.url or 'the server'} answered {self.status}")
        return self


def _response(value: dict[str, Any]) -> Response:
    headers = {str(name).lower(): text for name, text in dict(value["headers"]).items()}
    return Response(value["status"], headers, value["content"], value.get("url", ""))


def _request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    params: Params | None = None,
    json: Any = None,
    data: Data | None = None,
    timeout: float | None = None,
    credential: str | None = None,
    max_bytes: int | None = None,
) -> Ask[Response]:
    """Make one request; redirects are followed where each step is granted."""
    arguments = {
        "method": method.upper(),
        "url": url,
        "headers": None if headers is None else {str(name): str(text) for name, text in headers.items()},
        "params": None if params is None else _pairs(params),
        "json": json,
        "data": _pairs(data) if hasattr(data, "items") else data,
        "timeout": None if timeout is None else float(timeout),
        "credential": credential,
        "max_bytes": max_bytes,
    }
    return Ask("http", "request", arguments, _response)


def _pairs(params: Any) -> list[list[str]]:
    """Names and values in their order; a list stands for its name several times."""
    items = params.items() if hasattr(params, "items") else params
    return [
        [str(name), str(one)]
        for name, value in items
        for one in (value if isinstance(value, list | tuple) else [value])
    ]


class Options(TypedDict, total=False):
    """What ``get``, ``post``, … take beside the URL; as ``request`` does."""

    headers: Mapping[str, str] | None
    params: Params | None
    json: Any
    data: Data | None
    timeout: float | None
    credential: str | None
    max_bytes: int | None


def _get(url: str, **options: Unpack[Options]) -> Ask[Response]:
    """``request("GET", url, ...)``."""
    return _request("GET", url, **options)


def _post(url: str, **options: Unpack[Options]) -> Ask[Response]:
    """``request("POST", url, ...)``."""
    return _request("POST", url, **options)


def _put(url: str, **options: Unpack[Options]) -> Ask[Response]:
    """``request("PUT", url, ...)``."""
    return _request("PUT", url, **options)


def _patch(url: str, **options: Unpack[Options]) -> Ask[Response]:
    """``request("PATCH", url, ...)``."""
    return _request("PATCH", url, **options)


def _delete(url: str, **options: Unpack[Options]) -> Ask[Response]:
    """``request("DELETE", url, ...)``."""
    return _request("DELETE", url, **options)


request, arequest = both(_request)
get, aget = both(_get)
post, apost = both(_post)
put, aput = both(_put)
patch, apatch = both(_patch)
delete, adelete = both(_delete)

"""JSON Schemas of the tables people write, made from the structs that read them."""

from __future__ import annotations

from typing import Any

import msgspec

from kernel_runtime.domain.limits import OF_APPS, Limits
from kernel_runtime.domain.tables import ManifestTable, PolicyTable

_TABLES = {"manifest": ManifestTable, "policy": PolicyTable}
NAMES = tuple(_TABLES)


def schema(name: str) -> dict[str, Any]:
    """The schema of ``manifest`` or ``policy``."""
    (made,), components = msgspec.json.schema_components([_TABLES[name]], ref_template="#/$defs/{name}")
    for component in components.values():  # Python 3.13 keeps docstrings otherwise than those before it
        component["description"] = " ".join(component["description"].split())
    title = {"manifest": "app.toml of kernel_runtime", "policy": "policy.toml of kernel_runtime"}[name]
    if name == "manifest":
        limits = components["ManifestTable"]["properties"]["limits"]
        limits["propertyNames"] = {"enum": [*Limits.__struct_fields__, *OF_APPS]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **made,
        "$defs": components,
    }

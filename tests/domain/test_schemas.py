"""The published JSON Schemas are those of the structs, and refuse what the structs refuse."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.places import Place
from kernel_runtime.domain.reading import read_table
from kernel_runtime.domain.schemas import NAMES, schema
from kernel_runtime.domain.tables import ManifestTable, PolicyTable
from tests.domain.test_manifest import WHOLE as MANIFEST
from tests.domain.test_policy import WHOLE as POLICY

if TYPE_CHECKING:
    from pathlib import Path

TABLES = {"manifest": ManifestTable, "policy": PolicyTable}
TEXTS = {"manifest": MANIFEST, "policy": POLICY}


def example(name: str) -> dict[str, Any]:
    """As JSON has it: dates are text."""
    table = tomllib.loads(TEXTS[name])
    parsed: dict[str, Any] = json.loads(json.dumps(table, default=lambda date: date.isoformat()))
    return parsed


@pytest.mark.parametrize("name", NAMES)
def test_what_is_published_is_what_the_code_makes(root: Path, name: str) -> None:
    published = (root / f"docs/reference/schemas/{name}.schema.json").read_text()
    assert json.loads(published) == json.loads(json.dumps(schema(name))), (
        f"kernel-runtime policy schema {name} > docs/reference/schemas/{name}.schema.json"
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_example_is_valid(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))
    jsonschema.Draft202012Validator(schema(name)).validate(example(name))


def changed(table: Any, path: list[str | int]) -> list[tuple[str, Any]]:
    """Tables, each with one value replaced by one of another type, or with a key nobody knows."""
    found: list[tuple[str, Any]] = []
    items: Any = table.items() if isinstance(table, dict) else enumerate(table)
    for key, value in items:
        where = f"{path}{key}"
        for wrong in ({"strange": 1}, [["strange"]], None, True, 3.5):
            copy: Any = dict(table) if isinstance(table, dict) else list(table)
            copy[key] = wrong
            found.append((f"{where}={wrong}", copy))
        if isinstance(value, dict | list):
            for label, inner in changed(value, [*path, key]):
                copy = dict(table) if isinstance(table, dict) else list(table)
                copy[key] = inner
                found.append((label, copy))
    if isinstance(table, dict):
        found.append((f"{path} strange", {**table, "strange": 1}))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_schema_and_struct_agree_on_every_small_change(name: str) -> None:
    validator = jsonschema.Draft202012Validator(schema(name))
    cases = changed(example(name), [])
    refused = 0
    for label, table in cases:
        try:
            read_table(table, TABLES[name], Place(name, ""))
            read = True
        except Invalid:
            read = False
            refused += 1
        # The schema may know more (which limits there are), never less.
        assert read or not validator.is_valid(table), label
        if read:
            assert validator.is_valid(table) or "limits" in label, label
    assert refused > len(cases) / 2

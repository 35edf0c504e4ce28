"""Parameters of notebooks: as papermill reads and injects them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.jupyter import parameters

if TYPE_CHECKING:
    from pathlib import Path


def notebook(*cells: tuple[str, list[str]]) -> nbformat.NotebookNode:
    made = [nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, tags in cells]
    return nbformat.v4.new_notebook(cells=made)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3.5", 3.5),
        ("True", True),
        ("False", False),
        ("None", None),
        ("x=y", "x=y"),
        ("", ""),
        ("true", "true"),
        ("1e3", 1000.0),
        ("[1]", "[1]"),
    ],
)
def test_types_are_papermills(text: str, value: Any) -> None:
    papermill = pytest.importorskip("papermill.cli")
    assert parameters.parse_pairs([f"a={text}"]) == {"a": value}
    assert papermill._resolve_type(text) == value


def test_raw_stays_text() -> None:
    assert parameters.parse_pairs(["zip=01234"], raw=True) == {"zip": "01234"}


@pytest.mark.parametrize(
    ("pair", "hint"), [("rows", "no '='"), ("2x=1", "cannot be the name"), ("class=1", "cannot")]
)
def test_bad_pairs(pair: str, hint: str) -> None:
    with pytest.raises(Invalid, match=hint):
        parameters.parse_pairs([pair])


def test_files(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"rows": 3, "names": ["a"]}))
    (tmp_path / "p.yaml").write_text("rows: 3\nday: 2024-01-02\n")
    assert parameters.read_parameters(tmp_path / "p.json") == {"rows": 3, "names": ["a"]}
    day = parameters.read_parameters(tmp_path / "p.yaml")["day"]
    assert parameters.literal(day, "day") == "'2024-01-02'"


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("p.json", "{", "not valid JSON"),
        ("p.yaml", "a: [", "not valid YAML"),
        ("p.yaml", "- 1", "holds a list"),
        ("p.json", '{"a b": 1}', "cannot be the name"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, hint: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Invalid, match=hint):
        parameters.read_parameters(tmp_path / name)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="No such file"):
        parameters.read_parameters(tmp_path / "none.yaml")


def test_after_the_parameters_cell() -> None:
    nb = notebook(("import os", []), ("rows = 1", ["parameters"]), ("rows", []))
    parameters.inject(nb, {"rows": 5})
    assert [cell.source for cell in nb.cells] == ["import os", "rows = 1", "# Parameters\nrows = 5", "rows"]
    assert nb.cells[2].metadata.tags == ["injected-parameters"]
    nbformat.validate(nb)


def test_at_the_top_without_one() -> None:
    nb = notebook(("x", []))
    parameters.inject(nb, {"a": {"b": [1, None, float("inf")]}})
    assert nb.cells[0].source == "# Parameters\na = {'b': [1, None, float('inf')]}"


def test_an_earlier_injection_is_replaced() -> None:
    nb = notebook(("rows = 1", ["parameters"]), ("rows = 2", ["injected-parameters"]), ("rows", []))
    parameters.inject(nb, {"rows": 5})
    assert [cell.source for cell in nb.cells] == ["rows = 1", "# Parameters\nrows = 5", "rows"]


def test_unknown_names_list_the_known() -> None:
    nb = notebook(("rows: int = 1\nname = 'x'\na, b = 1, 2", ["parameters"]))
    with pytest.raises(Invalid, match=r"no parameter 'row'; did you mean 'rows'\?.*knows: rows, name, a, b"):
        parameters.inject(nb, {"row": 5})
    parameters.inject(nb, {"row": 5}, allow_unknown=True)
    assert len(nb.cells) == 2


def test_names_in_a_cell_with_magics() -> None:
    assert parameters.assigned_names("%matplotlib inline\nrows = 3\nif rows == 3: pass\nn: int = 4") == [
        "rows",
        "n",
    ]


def test_values_that_cannot_be_written() -> None:
    with pytest.raises(Invalid, match="a object cannot"):
        parameters.literal(object(), "x")


@pytest.mark.parametrize("value", ['it\'s "quoted"\n', -3, 1.5, True, None, [1, {"a": "b"}], "ü\u2028"])
def test_literals_evaluate_to_the_value(value: Any) -> None:
    assert eval(parameters.literal(value, "x")) == value

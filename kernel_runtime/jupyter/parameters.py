"""Parameters of a notebook: read from the command line or a file, injected as papermill does."""

from __future__ import annotations

import ast
import difflib
import json
import keyword
import math
import re
from typing import TYPE_CHECKING, Any

import nbformat

from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from nbformat import NotebookNode

DECLARED = "parameters"
INJECTED = "injected-parameters"
_WORDS = {"True": True, "False": False, "None": None}
_ASSIGNMENT = re.compile(r"^([A-Za-z_]\w*)\s*(?::[^=\n]+)?=(?!=)", re.MULTILINE)


# -- reading ------------------------------------------------------------------------------------


def parse_pairs(pairs: Iterable[str], *, raw: bool = False, place: str = "-p") -> dict[str, Any]:
    """``["n=3", "name=x"]`` → ``{"n": 3, "name": "x"}``; types as papermill's ``-p`` finds them.

    ``raw`` keeps every value a string, as papermill's ``-r``.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise Invalid(f"{place}: {pair!r} has no '='; write {place} name=value, like {place} rows=100")
        found[check_name(name.strip(), place)] = text if raw else typed(text)
    return found


def typed(text: str) -> Any:
    """Text → True, False, None, an int, a float, or the text itself (papermill's rule)."""
    if text in _WORDS:
        return _WORDS[text]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def read_parameters(path: Path) -> dict[str, Any]:
    """Parameters of a JSON or YAML file whose top level is a mapping of names to values."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Invalid(f"-f: {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise Invalid(f"-f: {path} is not a text file; write parameters as JSON or YAML") from None
    values = _loads(path, text)
    if not isinstance(values, dict):
        raise Invalid(
            f"-f: {path} holds a {type(values).__name__}; it must map names to values, like 'rows: 100'"
        )
    return {check_name(name, f"-f {path}"): value for name, value in values.items()}


def _loads(path: Path, text: str) -> Any:
    if path.suffix.lower() == ".json":
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"-f: {path} is not valid JSON: {error}") from None
    try:
        import yaml
    except ModuleNotFoundError:
        raise Invalid(
            f"-f: reading {path} needs PyYAML; install it, or write the file as JSON (.json)"
        ) from None
    try:
        return yaml.safe_load(text) or {}
    except (yaml.YAMLError, RecursionError) as error:
        raise Invalid(f"-f: {path} is not valid YAML: {error}") from None


def check_name(name: Any, place: str) -> str:
    """``name`` if Python can assign to it, else ``Invalid``."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise Invalid(f"{place}: {name!r} cannot be the name of a parameter; use a Python variable name")
    return name


# -- what a notebook declares -------------------------------------------------------------------


def tagged(notebook: NotebookNode, tag: str) -> int | None:
    """Index of the first cell with ``tag``."""
    for index, cell in enumerate(notebook.cells):
        if tag in cell.metadata.get("tags", ()):
            return index
    return None


def declared(notebook: NotebookNode) -> list[str] | None:
    """Names assigned in the cell tagged ``parameters``; None when there is no such cell."""
    index = tagged(notebook, DECLARED)
    return None if index is None else assigned_names(notebook.cells[index].source)


def assigned_names(source: str) -> list[str]:
    """Names assigned at the top level, in order; line by line where the source is not plain Python."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a magic, say: fall back to lines
        return list(dict.fromkeys(_ASSIGNMENT.findall(source)))
    names: list[str] = []
    for statement in body:
        targets = (
            statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        )
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            names += [n.id for t in targets if t is not None for n in ast.walk(t) if isinstance(n, ast.Name)]
    return list(dict.fromkeys(names))


def check_known(notebook: NotebookNode, names: Iterable[str]) -> None:
    """``Invalid`` for names the notebook's parameters cell does not assign; lists those it does."""
    known = declared(notebook)
    if known is None:
        return
    unknown = [name for name in names if name not in known]
    if not unknown:
        return
    text = f"the notebook has no parameter {' or '.join(map(repr, unknown))}"
    near = difflib.get_close_matches(unknown[0], known, n=1)
    text += f"; did you mean {near[0]!r}?" if near else "."
    listed = ", ".join(known) if known else "none (the cell assigns nothing)"
    raise Invalid(
        f"{text} Its cell tagged 'parameters' knows: {listed}. "
        "To inject a name it does not know, add --allow-unknown-parameters"
    )


# -- injecting ----------------------------------------------------------------------------------


def inject(notebook: NotebookNode, values: Mapping[str, Any], *, allow_unknown: bool = False) -> None:
    """Put a cell that assigns ``values`` where papermill would: in place of an earlier injected
    cell, else after the cell tagged ``parameters``, else at the top.
    """
    if not values:
        return
    if not allow_unknown:
        check_known(notebook, values)
    cell = nbformat.v4.new_code_cell(source=assignments(values), metadata={"tags": [INJECTED]})
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
        cell.pop("id", None)
    earlier, parameters = tagged(notebook, INJECTED), tagged(notebook, DECLARED)
    if earlier is not None:
        notebook.cells[earlier] = cell
    else:
        notebook.cells.insert(0 if parameters is None else parameters + 1, cell)


def assignments(values: Mapping[str, Any]) -> str:
    """The source of the injected cell."""
    return "\n".join(
        ["# Parameters", *(f"{name} = {literal(value, name)}" for name, value in values.items())]
    )


def literal(value: Any, place: str) -> str:
    """A value of JSON or YAML as a Python expression; ``Invalid`` names the type of anything else."""
    if value is None or isinstance(value, bool | int | str | bytes):
        return repr(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f"float({str(value)!r})"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(literal(item, place) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(k, place)}: {literal(v, place)}" for k, v in value.items()) + "}"
    if hasattr(value, "isoformat"):  # a date of YAML: papermill passes it as text, too
        return repr(value.isoformat())
    raise Invalid(f"parameter {place!r}: a {type(value).__name__} cannot be written into a notebook")

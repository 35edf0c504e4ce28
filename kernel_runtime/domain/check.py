"""The check: read Python without running it, and say where it does what a policy speaks about.

For advice and for reviews. Whoever wants to can write code that this does not see through; what
such code can reach is decided by the walls.
"""

from __future__ import annotations

import ast
import warnings
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain import check_cells
from kernel_runtime.domain.check_policy import Policy, Rule, Severity
from kernel_runtime.domain.check_scopes import IMPORTERS, Scope, constant, resolve, walk
from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Characters of one cell or file: what is longer is no code that a person wrote.
MAX_SOURCE = 1 << 20
_MAX_FINDINGS = 500
_MAX_WHAT = 120


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One thing found. ``what`` is the thing itself (``os.system``), ``rule`` what spoke: the kind
    and pattern of a rule, or the name of a note. Lines and columns count from 1; ``cell`` counts
    the code cells of a notebook from 1, None for a plain file."""

    severity: Severity
    rule: str
    what: str
    message: str
    suggestion: str
    line: int
    column: int
    cell: int | None = None


class Checker:
    """Checks cell after cell of one notebook; what earlier cells imported is known to later ones."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._module = Scope()

    def source(self, source: str, cell: int | None = None, *, plain: bool = False) -> list[Finding]:
        """Findings in a cell, gravest of a place first, in the order of the source.

        ``plain``: a Python file, in which a line with ``%`` or ``!`` is no magic. ``Invalid`` when it
        cannot be parsed, with the line.
        """
        if len(source) > MAX_SOURCE:
            raise Invalid(f"longer than {MAX_SOURCE} characters: not checked")
        parts = check_cells.Cell(source, [], []) if plain else check_cells.split(source)
        found = _Findings(self._policy, cell)
        for magic in parts.magics:
            found.magic(magic)
        trees = [(parse(parts.python), 0, 0), *_fragments(parts)]
        for tree, line, column in trees:
            found.shift = (line, column)
            self._read(tree, found)
        return found.listed()

    def tree(self, tree: ast.AST) -> list[Finding]:
        """Findings in what is parsed already."""
        found = _Findings(self._policy, None)
        self._read(tree, found)
        return found.listed()

    def _read(self, tree: ast.AST, found: _Findings) -> None:
        for node, scope in walk(tree, self._module):
            found.node(node, scope)
        self._module.settle()


def parse(source: str) -> ast.Module:
    """The tree; ``Invalid`` with the line when it is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError as error:
        raise Invalid(f"line {error.lineno or 1}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise Invalid(f"cannot be parsed: {str(error) or type(error).__name__}") from None


def _fragments(parts: check_cells.Cell) -> Iterator[tuple[ast.AST, int, int]]:
    for fragment in parts.fragments:
        try:
            yield parse(fragment.source), fragment.line - 1, fragment.column
        except Invalid:
            continue  # options of the magic that we do not know: the magic itself is named


class _Findings:
    """Applies the policy's rules and the check's own notes to nodes, once for each place."""

    def __init__(self, policy: Policy, cell: int | None) -> None:
        self._policy = policy
        self._cell = cell
        self._found: dict[tuple[int, int, str], Finding] = {}
        self.shift = (0, 0)

    def listed(self) -> list[Finding]:
        return sorted(self._found.values(), key=lambda f: (f.line, f.severity.rank, f.column))[:_MAX_FINDINGS]

    def magic(self, magic: check_cells.Magic) -> None:
        rule = self._policy.find("magic", magic.name)
        if rule is not None:
            shown = "a shell line (!)" if magic.name == "!" else f"the magic {magic.name}"
            self._put(rule, magic.name, f"{shown} is used", magic.line, magic.column)

    def node(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.Name | ast.Attribute):
            if isinstance(node.ctx, ast.Load):
                self._reference(node, scope)
        elif isinstance(node, ast.Call):
            self._call(node, scope)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                self._import(node, alias.name)
        elif isinstance(node, ast.ImportFrom):
            self._from(node)

    def _import(self, node: ast.AST, module: str) -> None:
        rule = self._policy.find("module", module)
        if rule is not None:
            self._at(node, rule, module, f"imports {_short(module)}")

    def _from(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        if not all(self._policy.allows(f"{module}.{alias.name}") for alias in node.names):
            self._import(node, module)
        for alias in node.names:
            path = f"{module}.{alias.name}"
            if alias.name == "*":
                self._note(
                    node,
                    "wildcard-import",
                    Severity.INFO,
                    module,
                    f"imports every name of {_short(module)}",
                    "name what you need: what a star brings cannot be followed",
                )
            elif not self._policy.find("module", module):
                self._import(node, path)
                rule = self._policy.find("call", path)
                if rule is not None:
                    self._at(alias, rule, path, f"imports {_short(path)}")

    def _reference(self, node: ast.Name | ast.Attribute, scope: Scope) -> None:
        for path in sorted(resolve(node, scope)):
            if self._by_path(node, path):
                return
        if isinstance(node, ast.Attribute) and node.attr.startswith("__"):
            rule = self._policy.find("name", node.attr)
            if rule is not None:
                self._at(node, rule, node.attr, f"uses the attribute {_short(node.attr)}")

    def _by_path(self, node: ast.Name | ast.Attribute, path: str) -> bool:
        builtin = path.removeprefix("builtins.")
        if builtin != path and (rule := self._policy.find("name", builtin)):
            self._at(node, rule, builtin, f"uses {_short(builtin)}")
            return True
        rule = self._policy.find("call", path)
        if rule is None and isinstance(node, ast.Attribute):
            base = path.rpartition(".")[0]
            if not self._policy.find("module", base):  # else its import has been spoken of
                rule = self._policy.find("module", path)
        if rule is None:
            return False
        name = path.removeprefix("?.").removeprefix("builtins.")
        written = ast.unparse(node) if _is_short(node) else name
        alias = f" (as {_short(written)})" if written != name else ""
        self._at(node, rule, name, f"uses {_short(name)}{alias}")
        return True

    def _call(self, node: ast.Call, scope: Scope) -> None:
        for path in sorted(resolve(node.func, scope)):
            if path in IMPORTERS and node.args:
                self._dynamic_import(node, path)
            elif path == "builtins.getattr" and len(node.args) > 1:
                self._dynamic_attribute(node, scope)

    def _dynamic_import(self, node: ast.Call, path: str) -> None:
        name = constant(node.args[0])
        if name is not None:
            self._import(node, name)
        else:
            self._note(
                node,
                "dynamic-import",
                Severity.WARNING,
                path,
                "imports a module whose name is computed",
                "import it by name, so that a reader can see what it is",
            )

    def _dynamic_attribute(self, node: ast.Call, scope: Scope) -> None:
        name = constant(node.args[1])
        bases = sorted(resolve(node.args[0], scope))
        if name is None:
            modules = [base for base in bases if not base.startswith(("?", "builtins."))]
            if modules:
                self._note(
                    node,
                    "dynamic-attribute",
                    Severity.INFO,
                    modules[0],
                    f"takes a computed attribute of {_short(modules[0])}",
                    "write the attribute's name",
                )
            return
        for base in bases:
            path = f"{base}.{name}"
            kind, plain = ("name", name) if base == "builtins" or name.startswith("__") else ("call", path)
            rule = self._policy.find(kind, plain) or self._policy.find("module", path)
            if rule is not None:
                self._at(node, rule, plain, f"uses {_short(plain)} (by getattr)")

    def _at(self, node: ast.AST, rule: Rule, what: str, message: str) -> None:
        self._put(rule, what, message, getattr(node, "lineno", 1), getattr(node, "col_offset", 0), self.shift)

    def _put(
        self, rule: Rule, what: str, message: str, line: int, column: int, shift: tuple[int, int] = (0, 0)
    ) -> None:
        name = f"{rule.kind} {rule.pattern}"
        self._keep(name, rule.severity, what, message, rule.suggestion, line, column, shift)

    def _note(
        self, node: ast.AST, name: str, severity: Severity, what: str, message: str, suggestion: str
    ) -> None:
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        self._keep(name, severity, what, message, suggestion, line, column, self.shift)

    def _keep(
        self,
        name: str,
        severity: Severity,
        what: str,
        message: str,
        suggestion: str,
        line: int,
        column: int,
        shift: tuple[int, int],
    ) -> None:
        line, column = line + shift[0], column + shift[1] + 1
        if len(self._found) < _MAX_FINDINGS:
            self._found.setdefault(
                (line, column, name),
                Finding(
                    severity=severity,
                    rule=name,
                    what=what[:_MAX_WHAT],
                    message=message,
                    suggestion=suggestion,
                    line=line,
                    column=column,
                    cell=self._cell,
                ),
            )


def _is_short(node: ast.AST) -> bool:
    """Whether it is a plain chain of names, which is worth showing as it was written."""
    for _ in range(8):
        if isinstance(node, ast.Name):
            return True
        if not isinstance(node, ast.Attribute):
            return False
        node = node.value
    return False


def _short(text: str) -> str:
    return text if len(text) <= _MAX_WHAT else text[: _MAX_WHAT - 1] + "…"

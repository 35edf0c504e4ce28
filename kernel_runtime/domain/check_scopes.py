"""Names of a piece of Python followed to the modules they come from, without running it.

Flow is not followed: a name stands for all that is ever bound to it in its scope.
"""

from __future__ import annotations

import ast

#: What an expression is that leads to no import.
UNKNOWN = "?"
_HOPS = 12  # from alias to alias, from call to call
_MAX_PATHS = 16
_MAX_NAMES = 20_000  # of one notebook
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_INNER = frozenset({*_FUNCTIONS, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp})
_BINDING = frozenset(
    {ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.Global, ast.Nonlocal}
    | {ast.Name, ast.arg, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler}
    | {ast.MatchAs, ast.MatchStar, ast.MatchMapping}
)
#: Parts of a tree that neither bind nor use a name.
_SILENT = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Constant)


class Scope:
    """What the names of one scope are bound to: paths (``os.path``), expressions, or unknown things."""

    def __init__(self, outer: Scope | None = None) -> None:
        self.outer = outer
        self._bound: dict[str, list[str | tuple[ast.expr, Scope]]] = {}
        self._elsewhere: set[str] = set()
        self._known: dict[str, set[str]] = {}
        self._following: set[str] = set()

    def bind(self, name: str, to: str | ast.expr) -> None:
        home = self._module if name in self._elsewhere else self
        home._known.pop(name, None)
        given = home._bound.setdefault(name, []) if len(home._bound) < _MAX_NAMES else []
        if len(given) < _MAX_PATHS:
            given.append(to if isinstance(to, str) else (to, self))

    def leave_to_module(self, name: str) -> None:
        """``global`` and ``nonlocal``: bound further out (both are taken for the module's)."""
        self._elsewhere.add(name)

    @property
    def _module(self) -> Scope:
        scope = self
        while scope.outer is not None:
            scope = scope.outer
        return scope

    def paths(self, name: str, hops: int = 0) -> set[str]:
        """``builtins.NAME`` for a name that is bound nowhere."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope._bound:
                return scope._follow(name, hops)
            scope = scope.outer
        return {f"builtins.{name}"}

    def _follow(self, name: str, hops: int) -> set[str]:
        if name in self._known:
            return self._known[name]
        if hops > _HOPS or name in self._following:
            return {UNKNOWN}
        self._following.add(name)
        found: set[str] = set()
        for to in self._bound[name]:
            found |= {to} if isinstance(to, str) else resolve(to[0], to[1], hops + 1)
        self._following.discard(name)
        self._known[name] = found = set(sorted(found)[:_MAX_PATHS])
        return found

    def settle(self) -> None:
        """Turn expressions into paths, so that no tree is kept beyond its cell."""
        for name in self._bound:
            paths = sorted(self._follow(name, 0))[:_MAX_PATHS]
            self._bound[name] = list(paths)


def resolve(node: ast.AST, scope: Scope, hops: int = 0) -> set[str]:
    """Dotted paths that an expression may stand for; ``?`` for the unknown."""
    if isinstance(node, ast.Name):
        return scope.paths(node.id, hops)
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    bases = _base(node, scope, hops)
    end = "".join(f".{name}" for name in reversed(attributes))
    return {base + end for base in sorted(bases)[:_MAX_PATHS]}


def _base(node: ast.AST, scope: Scope, hops: int) -> set[str]:
    if isinstance(node, ast.Name):
        return scope.paths(node.id, hops)
    if hops > _HOPS:
        return {UNKNOWN}
    if isinstance(node, ast.Call):
        return _called(node, scope, hops + 1)
    if isinstance(node, ast.Subscript):
        key = constant(node.slice)
        if key is not None and "sys.modules" in resolve(node.value, scope, hops + 1):
            return {key}
    if isinstance(node, ast.NamedExpr | ast.Await | ast.Starred):
        return resolve(node.value, scope, hops + 1)
    if isinstance(node, ast.IfExp):
        return resolve(node.body, scope, hops + 1) | resolve(node.orelse, scope, hops + 1)
    return {UNKNOWN}


def _called(node: ast.Call, scope: Scope, hops: int) -> set[str]:
    found: set[str] = set()
    for path in resolve(node.func, scope, hops):
        if path == "builtins.getattr" and len(node.args) > 1 and (name := constant(node.args[1])):
            found |= {f"{base}.{name}" for base in resolve(node.args[0], scope, hops)}
        elif path in IMPORTERS and node.args and (name := constant(node.args[0])):
            found.add(name.partition(".")[0] if path == "builtins.__import__" else name)
        else:
            found.add(UNKNOWN if path == UNKNOWN else f"{path}()")
    return found


#: Functions that import the module named by their first argument.
IMPORTERS = frozenset({"builtins.__import__", "importlib.import_module", "importlib.__import__"})


def constant(node: ast.AST) -> str | None:
    """The text of a literal."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return None


def walk(tree: ast.AST, module: Scope) -> list[tuple[ast.AST, Scope]]:
    """All statements and expressions in the order of the source, each with its scope; every name
    bound on the way."""
    found: list[tuple[ast.AST, Scope]] = []
    waiting: list[tuple[ast.AST, Scope]] = [(tree, module)]
    while waiting:
        node, scope = waiting.pop()
        found.append((node, scope))
        kind = type(node)
        if kind in _BINDING:
            _bind(node, scope)
        inner = Scope(scope) if kind in _INNER else scope
        waiting += [(child, inner) for child in reversed(_children(node))]
    return found


def _children(node: ast.AST) -> list[ast.AST]:
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [item for item in value if isinstance(item, ast.AST) and not isinstance(item, _SILENT)]
        elif isinstance(value, ast.AST) and not isinstance(value, _SILENT):
            found.append(value)
    return found


def _bind(node: ast.AST, scope: Scope) -> None:
    match node:
        case ast.Import():
            _bind_import(node, scope)
        case ast.ImportFrom():
            _bind_from(node, scope)
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                if isinstance(target, ast.Name):
                    scope.bind(target.id, value)
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            scope.bind(name, value)
        case ast.NamedExpr(target=ast.Name(id=name), value=value):
            scope.bind(name, value)
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            for name in names:
                scope.leave_to_module(name)
        case _:
            bound = _bound_name(node)
            if bound is not None:
                scope.bind(bound, UNKNOWN)


def _bound_name(node: ast.AST) -> str | None:
    """The name that a node binds to something that is not followed."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            return name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name):
            return name
        case ast.MatchStar(name=name) | ast.MatchMapping(rest=name):
            return name
    return None


def _bind_import(node: ast.Import, scope: Scope) -> None:
    for alias in node.names:
        if alias.asname:
            scope.bind(alias.asname, alias.name)
        else:
            top = alias.name.partition(".")[0]
            scope.bind(top, top)


def _bind_from(node: ast.ImportFrom, scope: Scope) -> None:
    module = "." * node.level + (node.module or "")
    for alias in node.names:
        if alias.name != "*":
            scope.bind(alias.asname or alias.name, f"{module}.{alias.name}")

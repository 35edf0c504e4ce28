# ruff: noqa: N802, N815, SIM905 - ast asks for these names; long lists of words read best as text
"""Level strict's language: cells are checked and rewritten before they are compiled.

A refusal names construct and line, early and readably: that, and the shape of what strict code may
use, is all this is for. It is never counted as a wall. RestrictedPython supplies the catalogue of
constructs (an unknown one is refused); where its refusals stand between a person and ordinary
pandas code they are lifted below, with the reason.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
import sys
from typing import TYPE_CHECKING, Any

from RestrictedPython.transformer import INSPECT_ATTRIBUTES, RestrictingNodeTransformer

from kernel_runtime.domain.check import Checker
from kernel_runtime.domain.check_policy import Rule, Tightened
from kernel_runtime.domain.magics import FRONT
from kernel_runtime.guest import script, serving
from kernel_runtime.guest.check_rules import default_policy
from kernel_runtime.guest.restricted_guards import (
    FORMATS,
    GUARD,
    PUBLIC,
    SPECIAL,
    Guards,
    is_private,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import CodeType, TracebackType

    from kernel_runtime.domain.check_policy import Policy

#: Magics whose code comes through the compiler again, or that run none.
MAGICS = frozenset(
    "time timeit capture matplotlib config precision pprint xmode colors who whos who_ls psearch pinfo pinfo2"
    " pdoc pdef psource pfile quickref lsmagic magic history hist reset reset_selective xdel env set_env pwd"
    " cd pushd popd dirs dhist autoawait autocall automagic html HTML svg SVG latex markdown javascript js"
    " writefile file notebook tb page pycat limits alias_magic".split()
) | {*FRONT, "gate"}
_RUN_MAGIC = frozenset({"run_line_magic", "run_cell_magic"})
_SHELL = frozenset({"system", "getoutput", "system_raw", "system_piped", "getlines"})
#: IPython's own names: ``_``, ``__``, ``_3``, ``_i``, ``_i3``, ``_oh`` …
_HISTORY = re.compile(r"_+|_\d+|_i{1,3}|_i\d+|_[iod]h|_exit_code")
_NAMES = frozenset({"__name__", "__doc__", "__file__", "__debug__", "__version__", "__all__", "__author__"})
_NO_NAMES = {
    "globals": "use variables of your own, or a dict",
    "locals": "use variables of your own, or a dict",
    "get_ipython": "use the magic itself (%time, %matplotlib)",
}
_ADVICE = {
    "__class__": "use type(x)",
    "__dict__": "use vars(x)",
    "__import__": "write an import statement",
    "__getattribute__": "use getattr",
}


_DEPTH = 20_000
_OURS = "kernel_runtime.guest.restricted"


class PolicyError(SyntaxError):
    """The language policy of level strict refused a cell; nothing of it was run."""


def warm() -> None:
    """What the first strict cell would otherwise pay for."""
    Language(default_policy()).restrict(ast.parse("x.y"), "x.y", "<warm-up>")


def enforce(shell: Any, blocked: Sequence[tuple[str, str, str]] = ()) -> None:
    """From now on ``shell`` (IPython's) compiles restricted code only; ``blocked`` is refused, too."""
    policy = Tightened(default_policy(), map(_rule, blocked)) if blocked else default_policy()
    language = Language(policy, {"get_ipython": shell.get_ipython})
    parse, exc_info = shell.compile.ast_parse, shell._get_exc_info

    def ast_parse(source: str, filename: str = "<unknown>", symbol: str = "exec") -> ast.AST:
        shell.user_ns["__builtins__"] = language.builtins  # %reset takes it away
        tree: ast.AST = parse(source, filename, symbol)
        return language.restrict(tree, source, filename)

    def get_exc_info(exc_tuple: Any = None) -> Any:
        etype, value, trace = exc_info(exc_tuple)
        trim(trace, whole=isinstance(value, PolicyError))
        return etype, value, trace

    def run_script(line: str, cell: str) -> None:
        script.run(shell.user_ns, cell, *_path_and_arguments(line), language.translate)

    def run_call(line: str) -> None:
        serving.serve(shell.user_ns, language.translate)

    shell.register_magic_function(run_script, "cell", script.MAGIC)
    shell.register_magic_function(run_call, "line", serving.MAGIC)
    shell.compile.ast_parse = ast_parse
    shell._get_exc_info = get_exc_info
    shell.user_ns["__builtins__"] = language.builtins


def _rule(said: tuple[str, str, str]) -> Rule:
    kind, pattern, suggestion = said
    return Rule(kind=kind, pattern=pattern, suggestion=suggestion)


def _path_and_arguments(line: str) -> tuple[str, list[str]]:
    path, *arguments = json.loads(line)
    return path, arguments


def trim(trace: TracebackType | None, *, whole: bool) -> None:
    """Take the policy's own frames out of a traceback; with ``whole`` all that lie below the cell's."""
    while trace is not None:
        following, ours = trace.tb_next, False
        while following is not None:
            module = str(following.tb_frame.f_globals.get("__name__"))
            ours = module.startswith(_OURS) or (ours and module == "string")
            if not (ours or (whole and module.startswith("IPython."))):
                break
            following = following.tb_next
        trace.tb_next = following
        trace = following


class Language:
    """What strict code may say, and the built-ins that it runs with."""

    def __init__(self, policy: Policy, more: dict[str, Any] | None = None) -> None:
        self._policy = policy
        self._checker = Checker(policy)
        self.builtins = Guards(policy).builtins(more or {})

    def translate(self, source: str, filename: str) -> CodeType:
        """A whole file, compiled."""
        tree = ast.parse(source, filename)
        return compile(self.restrict(tree, source, filename), filename, "exec", dont_inherit=True)  # type: ignore[call-overload, no-any-return] # a tree it is

    def restrict(self, tree: ast.AST, source: str, filename: str) -> ast.AST:
        """The tree to compile; ``PolicyError`` at the first place of what is refused."""
        try:
            with _deep_recursion():
                return self._restrict(tree, source, filename)
        except RecursionError:
            raise PolicyError(refusal("an expression nested too deeply"), (filename, 1, 1, "")) from None

    def _restrict(self, tree: ast.AST, source: str, filename: str) -> ast.AST:
        transformer = Transformer(self._policy)
        for finding in self._checker.tree(tree):
            if finding.severity == "error":
                text = refusal(finding.message, finding.suggestion)
                transformer.problems.append((finding.line, finding.column - 1, text))
        rewritten: ast.AST = transformer.visit(tree)
        if transformer.problems:
            raise _error(sorted(transformer.problems), source, filename)
        return ast.fix_missing_locations(rewritten)


@contextlib.contextmanager
def _deep_recursion() -> Iterator[None]:
    """A tree is visited by Python functions, several for each node of depth; Python's own compiler,
    which has bounded the depth already, is not held back by this limit."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEPTH))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _error(problems: list[tuple[int, int, str]], source: str, filename: str) -> PolicyError:
    line, column, text = problems[0]
    others = sorted({number for number, _, _ in problems} - {line})
    if others:
        shown = ", ".join(map(str, others[:5])) + (", …" if len(others) > 5 else "")
        text += f" (line {line}; there is more in line{'s' * (len(others) > 1)} {shown})"
    else:
        text += f" (line {line})"
    lines = source.splitlines()
    written = lines[line - 1] if line <= len(lines) else ""
    offset = len(written.encode()[:column].decode(errors="ignore")) + 1
    return PolicyError(text, (filename, line, offset, written))


class Transformer(RestrictingNodeTransformer):
    """RestrictedPython's, with what ordinary notebooks need."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._policy = policy
        self._in_class = False
        self.problems: list[tuple[int, int, str]] = []

    def error(self, node: ast.AST, info: str) -> None:
        self.problems.append((getattr(node, "lineno", 1), getattr(node, "col_offset", 0), info))

    def refuse(self, node: ast.AST, what: str, suggestion: str = "") -> None:
        """Note that ``node`` is not allowed."""
        self.error(node, refusal(what, suggestion))

    def not_allowed(self, node: ast.AST) -> None:
        self.refuse(node, f"the construct {type(node).__name__}")

    # -- names -----------------------------------------------------------------------------------

    def check_name(self, node: Any, name: str | None, allow_magic_methods: bool = False) -> None:
        """Names of the user's own may begin with one underscore; the guards' and special ones not."""
        if name is None or not name.startswith("_") or _HISTORY.fullmatch(name) or name in _NAMES:
            return
        special = name.startswith("__") and name.endswith("__")
        if special and not self._in_class:
            self.refuse(node, f"the name {name}", _ADVICE.get(name, ""))
        elif not special and name.endswith("_") and not self._in_class:
            self.refuse(node, f"the name {name} (with an underscore at both ends)", "choose another")

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in _NO_NAMES and isinstance(node.ctx, ast.Load):
            self.refuse(node, node.id, _NO_NAMES[node.id])
        elif not (node.id == "__class__" and self._in_class):
            self.check_name(node, node.id)
        return node

    def check_import_names(self, node: ast.ImportFrom | ast.Import) -> ast.AST:
        """A star could bring a name of the guards' along."""
        module = getattr(node, "module", None) or ""
        for alias in node.names:
            path = f"{module}.{alias.name}" if module else alias.name
            if alias.name == "*":
                self.refuse(node, f"from {module} import *", "name what you need")
            elif module != "__future__" and any(part.startswith("_") for part in path.split(".")):
                self.refuse(alias, f"importing the private {path}", "use the public names of the package")
            self.check_name(alias, alias.asname)
        return node

    # -- attributes --------------------------------------------------------------------------------

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Judged here; asked again while it runs where what the object is decides."""
        name = node.attr
        special = name.startswith("__") and name.endswith("__") and name.strip("_")
        if name in INSPECT_ATTRIBUTES or (special and name not in SPECIAL):
            self.refuse(node, f"the attribute {name}", _ADVICE.get(name, ""))
        writes = not isinstance(node.ctx, ast.Load)
        guarded = writes or is_private(name) or name in FORMATS or self._policy.speaks_of(name)
        self.node_contents_visit(node)
        if guarded and not _is_super(node.value):
            node.value = _call(GUARD if not writes else f"{GUARD}write_", node, name)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """No rule speaks of items: ``df["a"]`` stays as it is."""
        return self.node_contents_visit(node)

    # -- calls ---------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Star arguments need no wrapper, as calls are not guarded; magics are IPython's calls."""
        magic = _magic_of(node)
        if magic is None:
            return self.node_contents_visit(node)
        method, name = magic
        if method in _SHELL:
            self.refuse(
                node, f"a shell line (!{name[:40]})", "strict starts no process; use a Python package"
            )
        elif name not in MAGICS and name not in (script.MAGIC, serving.MAGIC):
            self.refuse(node, f"the magic %{name}", "write what it does as Python")
        return node

    # -- statements ------------------------------------------------------------------------------------

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """``df["a"] += 1``: RestrictedPython refuses it to guard the item read and written."""
        return self.node_contents_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Unpacking iterates, and iteration is not guarded."""
        return self.node_contents_visit(node)

    def guard_iter(self, node: Any) -> Any:
        return self.node_contents_visit(node)

    def visit_With(self, node: ast.With) -> ast.AST:
        return self.node_contents_visit(node)

    def visit_Module(self, node: ast.Module) -> ast.AST:
        """``print`` prints: no collector."""
        return self.node_contents_visit(node)

    def visit_FunctionDef(self, node: Any) -> Any:
        """Also async ones. Special methods are a class's own affair."""
        self.check_name(node, node.name)
        self.check_function_argument_names(node)
        within, self._in_class = self._in_class, False
        try:
            return self.node_contents_visit(node)
        finally:
            self._in_class = within

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Bases, keywords and metaclasses stay: nothing that a class could say is guarded."""
        self.check_name(node, node.name)
        within, self._in_class = self._in_class, True
        try:
            return self.node_contents_visit(node)
        finally:
            self._in_class = within

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.check_name(node, node.name)
        return self.node_contents_visit(node)

    def visit_Global(self, node: Any) -> Any:
        for name in node.names:
            self.check_name(node, name)
        return node

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.AST:
        """A pattern reads attributes: the same names as anywhere."""
        for name in node.kwd_attrs:
            if name.startswith("_") and not PUBLIC.fullmatch(name):
                self.refuse(node, f"the attribute {name} in a pattern")
        return self.node_contents_visit(node)

    def visit_MatchAs(self, node: Any) -> Any:
        self.check_name(node, getattr(node, "name", None) or getattr(node, "rest", None))
        return self.node_contents_visit(node)

    def _plain(self, node: Any) -> Any:
        return self.node_contents_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_Nonlocal = visit_Global
    visit_MatchStar = visit_MatchMapping = visit_MatchAs
    # Annotations, patterns, type parameters: nothing but their names and expressions, judged as such.
    visit_AnnAssign = visit_Match = visit_match_case = visit_MatchValue = visit_MatchSingleton = _plain
    visit_MatchSequence = visit_MatchOr = visit_TypeAlias = _plain
    visit_TypeVar = visit_ParamSpec = visit_TypeVarTuple = _plain
    # RestrictedPython keeps coroutines for its host; a notebook awaits at its top level.
    visit_Await = visit_AsyncFor = visit_AsyncWith = _plain
    # Refused there for a fault in CPython (CVE-2025-22153) that ends, at worst, in the guest's own crash.
    visit_TryStar = _plain
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _plain


def _call(guard: str, node: ast.Attribute, name: str) -> ast.Call:
    """``guard(value, "name")`` in the place of the attribute's value."""
    call = ast.Call(ast.Name(guard, ast.Load()), [node.value, ast.Constant(name)], [])
    for made in _nodes(call, node.value):
        ast.copy_location(made, node.value)
    return call


def _nodes(call: ast.Call, value: ast.expr) -> Iterator[ast.expr]:
    yield call
    yield call.func
    yield from (argument for argument in call.args if argument is not value)


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _magic_of(node: ast.Call) -> tuple[str, str] | None:
    """Method and magic's name of ``get_ipython().run_line_magic("name", …)``, IPython's rewritten magics."""
    func = node.func
    if not (isinstance(func, ast.Attribute) and isinstance(func.value, ast.Call)):
        return None
    asked = func.value.func
    if not (isinstance(asked, ast.Name) and asked.id == "get_ipython"):
        return None
    constants = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
    if func.attr in _SHELL or (func.attr in _RUN_MAGIC and len(constants) == len(node.args)):
        return func.attr, str(constants[0]) if constants else ""
    return None

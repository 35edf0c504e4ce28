"""The code of a function with a gate: what it is in is compiled anew from the source, with one call more at its beginning."""

from __future__ import annotations

import ast
import inspect
import types
import warnings
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Constants in the compiled code that others stand in for: what is called at the gate, and where its condition raises.
_MARK = "kernel_runtime: here a gate is called"
_RAISED = "kernel_runtime: the condition of a gate has raised"
_ERROR = "kernel_runtime: what a condition may raise"


def gated_code(
    function: types.FunctionType,
    call: Callable[[], None],
    condition: str = "",
    raised: Callable[[], None] = lambda: None,
) -> types.CodeType:
    """The function's code with ``call()``, under the condition, as its first statement; ``raised()`` where that raises."""
    code, name = function.__code__, function.__qualname__
    if code.co_name == "<lambda>":
        raise Invalid(f"%gate: {name} is no plain `def`: no gate")
    try:
        tree = ast.parse("".join(inspect.findsource(code)[0]))
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        raise Invalid(f"%gate: the source of {name} cannot be read: no gate") from None
    definition = next((node for node in ast.walk(tree) if _is_of(node, code)), None)
    units = _units(tree, definition) if definition else ()
    unit = next((unit for unit in units if _is_compiled_to(unit, code)), None)
    if unit is None:
        raise Invalid(
            f"%gate: the source of {name} is not what runs: was its file edited since it was imported? "
            "Import it again (importlib.reload, or restart): no gate"
        )
    _rewrite(definition, condition)
    found = _compiled(unit, code)
    if found is None or (found.co_freevars, found.co_flags) != (code.co_freevars, code.co_flags):
        around = ", ".join(set(found.co_freevars) - set(code.co_freevars)) if found else ""
        why = f"{around} is outside of it, and not used in it" if around else "as it is written"
        raise Invalid(f"%gate: the condition cannot stand in {name}, {why}: {condition}")
    stand_ins: dict[object, object] = {_MARK: call, _RAISED: raised, _ERROR: Exception}
    return found.replace(co_consts=tuple(stand_ins.get(each, each) for each in found.co_consts))


def _is_of(node: ast.AST, code: types.CodeType) -> bool:
    """Whether it is the definition: its code begins at the first decorator."""
    if not isinstance(node, ast.FunctionDef) or node.name != code.co_name:
        return False
    first = node.decorator_list[0] if node.decorator_list else node
    return first.lineno == code.co_firstlineno


def _units(tree: ast.Module, definition: ast.AST) -> Iterator[ast.Module]:
    """What may have been compiled at once: a cell goes statement by statement, a file as a whole (names that it imports
    are called in another way)."""
    yield from (ast.Module([part], []) for part in tree.body if definition in ast.walk(part))
    yield tree


def _is_compiled_to(unit: ast.Module, code: types.CodeType) -> bool:
    found = _compiled(unit, code)
    return found is not None and _without_places(found) == _without_places(code)


def _compiled(unit: ast.Module, code: types.CodeType) -> types.CodeType | None:
    """What becomes of the code's definition; None where there is none, or it cannot be compiled."""
    flags = _futures(code) | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            compiled = compile(unit, code.co_filename, "exec", dont_inherit=True, flags=flags)
        except SyntaxError:
            return None
    return _find(compiled, code)


def _find(within: types.CodeType, code: types.CodeType) -> types.CodeType | None:
    for inner in within.co_consts:
        if isinstance(inner, types.CodeType):
            if (inner.co_qualname, inner.co_firstlineno) == (code.co_qualname, code.co_firstlineno):
                return inner
            if (found := _find(inner, code)) is not None:
                return found
    return None


def _without_places(code: types.CodeType) -> types.CodeType:
    """What is compared: not on which lines and columns it stands."""
    inner = (_without_places(each) if isinstance(each, types.CodeType) else each for each in code.co_consts)
    return code.replace(co_consts=tuple(inner), co_firstlineno=1, co_linetable=b"")


def _futures(code: types.CodeType) -> int:
    import __future__

    flags = [getattr(__future__, name).compiler_flag for name in __future__.all_feature_names]
    return sum(flag for flag in set(flags) if code.co_flags & flag)


# -- the call ---------------------------------------------------------------------------------------


def _rewrite(definition: Any, condition: str) -> None:
    """The call after the docstring and what is declared, on the line of the statement that follows."""
    body = definition.body
    has_text = isinstance(body[0], ast.Expr) and isinstance(getattr(body[0].value, "value", None), str)
    place = 1 if has_text else 0
    while place < len(body) and isinstance(body[place], (ast.Global, ast.Nonlocal)):
        place += 1
    near = body[min(place, len(body) - 1)]
    call = _under(_parsed(condition)) if condition else _call(_MARK)
    for node in ast.walk(call):
        ast.copy_location(node, near)
    body.insert(place, call)


def _call(constant: str) -> ast.stmt:
    return ast.Expr(ast.Call(ast.Constant(constant), [], []))


def _under(condition: ast.expr) -> ast.stmt:
    """The call where the condition holds. A loop that is left at once: what the call raises is not the condition's,
    and no variable is needed, which the stack would show."""
    leave = ast.If(ast.UnaryOp(ast.Not(), condition), [ast.Break()], [])
    handler = ast.ExceptHandler(ast.Constant(_ERROR), None, [_call(_RAISED), ast.Break()])
    tried = ast.Try([leave], [handler], [], [])
    return ast.While(ast.Constant(True), [tried, _call(_MARK), ast.Break()], [])


def _parsed(condition: str) -> ast.expr:
    try:
        return ast.parse(condition, mode="eval").body
    except SyntaxError as error:
        raise Invalid(f"%gate: the condition is no expression: {error.msg}: {condition}") from None

"""A way around level strict's language policy: there are many, and the walls are why that is no harm."""

from __future__ import annotations

import ast

#: From an object to its class, to all classes, to the globals of one that os defines, to real built-ins.
_ROUTE = """
import operator
every = operator.attrgetter("__class__.__base__.__subclasses__")(1)()
(close,) = [kind for kind in every if kind.__name__ == "_wrap_close"]
real = operator.attrgetter("__init__.__globals__")(close)["__builtins__"]
names = {"__name__": "__main__", "__builtins__": real}
"""


def escaped(code: str) -> str:
    """A cell for a strict guest that runs ``code`` with all of Python; its last expression is the result."""
    tree = ast.parse(code)
    last = ""
    if isinstance(tree.body[-1], ast.Expr):
        last = ast.unparse(tree.body.pop())
    body = ast.unparse(tree)
    return f"{_ROUTE}real['exec']({body!r}, names)\n" + (f"real['eval']({last!r}, names)\n" if last else "")

# ruff: noqa: SIM905 - long lists of words read best as text
"""What restricted code meets while it runs: its built-ins, and the guard of attributes.

Only names that a rule speaks of, and names with an underscore, are guarded at run time: all
others are judged when the cell is compiled, and cost nothing afterwards.
"""

from __future__ import annotations

import builtins
import re
import string
import types
from typing import TYPE_CHECKING, Any

from RestrictedPython.Guards import safe_builtins
from RestrictedPython.transformer import INSPECT_ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kernel_runtime.domain.check_policy import Policy, Rule

GUARD = "_guard_"
FORMATS = frozenset({"format", "format_map"})
#: Names with an underscore that are public all the same: namedtuple's, and IPython's display protocol.
PUBLIC = re.compile(r"_asdict|_replace|_make|_fields|_field_defaults|_repr_\w+_|_ipython_\w+_")
#: Special attributes that tell or do nothing beyond their object.
SPECIAL = frozenset(
    "__name__ __qualname__ __module__ __doc__ __version__ __all__ __file__ __author__ __annotations__"
    " __notes__ __cause__ __context__ __init__ __new__ __post_init__ __init_subclass__ __set_name__"
    " __enter__ __exit__ __aenter__ __aexit__ __iter__ __next__ __aiter__ __anext__ __len__ __contains__"
    " __getitem__ __setitem__ __delitem__ __call__ __repr__ __str__ __bytes__ __format__ __hash__ __bool__"
    " __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __add__ __sub__ __mul__ __truediv__ __floordiv__ __mod__"
    " __pow__ __matmul__ __neg__ __abs__ __and__ __or__ __xor__ __int__ __float__ __index__ __round__"
    " __dataclass_fields__ __array__ __missing__ __slots__ __match_args__".split()
)
#: Added to RestrictedPython's: it leaves out what iterates in C past a guard of iteration, and what
#: reads and writes. There is no guard of iteration here, and files and standard input are the guest's own.
_ADDED = frozenset(
    "__build_class__ __debug__ NotImplemented aiter all anext any ascii bin bytearray bytes classmethod dict"
    " dir display enumerate filter format frozenset help input iter list map max memoryview min next object"
    " open print property reversed set sorted staticmethod sum super tuple type zip".split()
)


class PolicyRefusal(AttributeError):
    """The language policy of level strict refused an attribute while the cell ran."""


class ImportRefusal(ImportError):
    """The language policy of level strict refused an import while the cell ran."""


def refusal(what: str, suggestion: str = "") -> str:
    """``what`` and what to do instead, in one sentence."""
    text = f"{what}: not allowed at level strict"
    return f"{text}; {suggestion}" if suggestion else text


def grave(policy: Policy, kind: str, path: str) -> Rule | None:
    """The rule for ``path`` if it is one that refuses."""
    rule = policy.find(kind, path)
    return rule if rule is not None and rule.severity == "error" else None


def is_private(name: str) -> bool:
    """Whether an attribute is an object's own affair: ``_x``, and ``__x`` within a class."""
    return name.startswith("_") and not (name == "_" * len(name) or PUBLIC.fullmatch(name) or name in SPECIAL)


class Guards:
    """Built-ins for restricted code under one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def guard(self, value: Any, name: str) -> Any:
        """``value`` again if its attribute ``name`` may be used; text that formats safely for ``format``."""
        __tracebackhide__ = True
        if name in FORMATS and _is_text(value):
            return _Formatting(value, self)
        if isinstance(value, types.ModuleType):
            self._check_module(value, name)
        if isinstance(value, string.Formatter):
            raise PolicyRefusal(refusal("string.Formatter", "use f-strings or str.format"))
        if is_private(name) and not _is_users_own(value):
            raise PolicyRefusal(
                refusal(f"the private attribute {name}", "use the object's public attributes")
            )
        return value

    def _check_module(self, module: types.ModuleType, name: str) -> None:
        __tracebackhide__ = True
        path = f"{vars(module).get('__name__')}.{name}"
        plain = path.removeprefix("builtins.")
        for kind in ("call", "module", "name") if plain != path else ("call", "module"):
            rule = grave(self._policy, kind, plain if kind == "name" else path)
            if rule is not None:
                raise PolicyRefusal(refusal(plain, rule.suggestion))

    def guard_write(self, value: Any, name: str) -> Any:
        """``value`` again if its attribute ``name`` may be set or deleted."""
        __tracebackhide__ = True
        if isinstance(value, types.ModuleType):
            what = f"setting {name} of the module {vars(value).get('__name__')}"
            raise PolicyRefusal(refusal(what, "keep it in a variable of your own"))
        return self.guard(value, name)

    def attribute(self, value: Any, name: str, *default: Any) -> Any:
        """``getattr``"""
        __tracebackhide__ = True
        self.check_name(name)
        return getattr(self.guard(value, name), name, *default)

    def check_name(self, name: Any) -> None:
        """Refuse special names and the interpreter's insides."""
        __tracebackhide__ = True
        if type(name) is not str:
            raise TypeError("attribute name must be string")
        special = name.startswith("__") and name.endswith("__") and name not in SPECIAL and name.strip("_")
        if special or name in INSPECT_ATTRIBUTES:
            raise PolicyRefusal(refusal(f"the attribute {name}"))

    def has_attribute(self, value: Any, name: str) -> bool:
        """``hasattr``"""
        try:
            self.attribute(value, name)
        except AttributeError:
            return False
        return True

    def set_attribute(self, value: Any, name: str, to: Any) -> None:
        """``setattr``"""
        __tracebackhide__ = True
        self.check_name(name)
        setattr(self.guard_write(value, name), name, to)

    def delete_attribute(self, value: Any, name: str) -> None:
        """``delattr``"""
        __tracebackhide__ = True
        self.check_name(name)
        delattr(self.guard_write(value, name), name)

    def variables(self, value: Any) -> dict[str, Any]:
        """``vars`` of an object: a copy, without special names."""
        __tracebackhide__ = True
        if isinstance(value, types.ModuleType):
            raise PolicyRefusal(refusal("vars of a module", "use dir"))
        return {name: item for name, item in vars(value).items() if not str(name).startswith("__")}

    def load(
        self,
        name: str,
        given: Mapping[str, object] | None = None,
        local: Mapping[str, object] | None = None,
        names: Any = (),
        level: int = 0,
    ) -> Any:
        """``import``"""
        __tracebackhide__ = True
        paths = [f"{name}.{part}" for part in names or ()]
        if not (paths and all(map(self._policy.allows, paths))):
            paths = [name, *paths]
        for path in paths:
            rule = grave(self._policy, "module", path) or grave(self._policy, "call", path)
            if rule is not None:
                raise ImportRefusal(refusal(f"importing {path}", rule.suggestion), name=path)
        return __import__(name, given, local, names, level)

    def builtins(self, more: dict[str, Any]) -> dict[str, Any]:
        """The built-ins of restricted code; ``more`` go on top."""
        names = {name for name in safe_builtins if hasattr(builtins, name)} | _ADDED
        names |= {name for name, value in vars(builtins).items() if _is_exception(value)}
        found = {name: value for name, value in vars(builtins).items() if name in names}
        own: dict[str, Callable[..., Any]] = {
            GUARD: self.guard,
            f"{GUARD}write_": self.guard_write,
            "__import__": self.load,
            "getattr": self.attribute,
            "hasattr": self.has_attribute,
            "setattr": self.set_attribute,
            "delattr": self.delete_attribute,
            "vars": self.variables,
            "input": _input,
        }
        return found | own | more


def _input(prompt: object = "", /) -> str:
    """``input`` as it is now: while a cell runs it is the kernel's own."""
    __tracebackhide__ = True
    return builtins.input(prompt)


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, type) and issubclass(value, str))


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _is_users_own(value: object) -> bool:
    """Whether it is a class written in the notebook, or an object of one."""
    kind = value if isinstance(value, type) else type(value)
    return any(vars(base).get("__module__") == "__main__" for base in kind.__mro__)


class _Formatting:
    """``str.format`` whose fields may use what code may: CVE-2023-41039 was fields that might not."""

    def __init__(self, text: str | type[str], guards: Guards) -> None:
        self._text = text
        self._formatter = _Formatter(guards)

    def format(self, *values: Any, **named: Any) -> str:
        text, rest = self._bound(values)
        return self._formatter.vformat(text, rest, named)

    def format_map(self, *values: Any) -> str:
        text, rest = self._bound(values)
        return self._formatter.vformat(text, (), rest[0])

    def _bound(self, values: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
        if isinstance(self._text, str):
            return self._text, values
        return str(values[0]), values[1:]


class _Formatter(string.Formatter):
    """The standard one, which asks the guards for each attribute of a field."""

    def __init__(self, guards: Guards) -> None:
        self._guards = guards

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        first, rest = _split_field(field_name)
        value = self.get_value(first, args, kwargs)
        for is_attribute, name in rest:
            value = self._guards.attribute(value, str(name)) if is_attribute else value[name]
        return value, first


def _split_field(field_name: str) -> tuple[Any, Any]:
    import _string  # type: ignore[import-not-found] # it has no stub

    found: tuple[Any, Any] = _string.formatter_field_name_split(field_name)
    return found

"""A handler that is called: arguments and answers held to the types that it is written with, and whose fault it is."""

from __future__ import annotations

import datetime as dt
import itertools
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kernel_runtime.domain import packed
from kernel_runtime.domain.exchange import ASKED, MAX_REPLY, REPLY, Asked, Reply, read_reply
from kernel_runtime.guest import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Serve = Callable[..., tuple[Reply, Any]]

HEAD = """
from __future__ import annotations
import dataclasses, datetime as dt, msgspec
from typing import Annotated, Any, Callable, Literal

@dataclasses.dataclass
class Price:
    metal: str
    amount: float
    on: dt.date | None = None

class Order(msgspec.Struct):
    price: Price
    count: Annotated[int, msgspec.Meta(ge=1)] = 1

class Foreign:
    pass

"""
_numbers = itertools.count()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Write a module with the handler ``f``, call it, and read the reply as the host would."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def serve(code: str, module: str = "", translate: Any = None, **arguments: Any) -> tuple[Reply, Any]:
        module = module or f"served_{next(_numbers)}"
        path = tmp_path / f"{module}.py"
        path.write_text(HEAD + code)
        asked = Asked(
            directory=str(tmp_path),
            module=module,
            function="f",
            path=str(path),
            arguments=packed.pack(arguments),
            source=HEAD + code if translate else "",
        )
        names: dict[str, Any] = {ASKED: msgspec.msgpack.encode(asked)}
        try:
            serving.serve(names, translate)
        finally:
            kept[:] = [names[REPLY]]
        return read_reply(names[REPLY])

    kept: list[bytes] = []
    serve.kept = kept  # type: ignore[attr-defined]
    yield serve
    for name in set(sys.modules) - before:
        if name.startswith("served_"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("code", "arguments", "value"),
    [
        ("def f(): return 5", {}, 5),
        ("def f(a, b=2, *, c=3): return [a, b, c]", {"a": 1, "c": {"x": b"y"}}, [1, 2, {"x": b"y"}]),
        ("def f(**more: int): return more", {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        ("def f(on: dt.date): return on.year", {"on": "2027-03-01"}, 2027),
        ("def f(at: dt.datetime): return at", {"at": dt.datetime(2027, 1, 1, tzinfo=dt.UTC)}, None),
        ("def f(price: Price): return type(price).__name__", {"price": {"metal": "tin", "amount": 1}}, "Price"),
        ("def f(order: Order): return order.price.amount * order.count",
         {"order": {"price": {"metal": "tin", "amount": 1.5}, "count": 2}}, 3.0),
        ("def f(metals: set[str]) -> list[str]: return sorted(metals)", {"metals": ["b", "a", "b"]}, ["a", "b"]),
        ("def f(metal: str) -> Price: return Price(metal, 2.5)", {"metal": "tin"},
         {"metal": "tin", "amount": 2.5, "on": None}),
        ("def f() -> None: pass", {}, None),
        ("async def f(a: int) -> int:\n    import asyncio\n    await asyncio.sleep(0)\n    return a + 1", {"a": 1}, 2),
    ],
)  # fmt: skip
def test_a_handler_gets_what_it_is_written_for(
    serve: Serve, code: str, arguments: dict[str, Any], value: Any
) -> None:
    reply, found = serve(code, **arguments)
    assert reply.fault == ""
    assert found == arguments.get("at", value)


@pytest.mark.parametrize(
    ("code", "arguments", "said"),
    [
        ("def f(metal: str): 1/0", {"metal": 5}, "the argument 'metal': Expected `str`, got `int`"),
        ("def f(metal): 1/0", {"metl": 5}, "it takes no argument 'metl'; did you mean 'metal'?"),
        ("def f(metal, n=1): 1/0", {}, "missing a required argument: 'metal'; it takes metal, n"),
        ("def f(order: Order): 1/0", {"order": {"price": {"metal": "tin", "amount": "x"}}}, "- at `$.price.amount`"),
        ("def f(order: Order): 1/0", {"order": {"price": {"metal": "tin", "amount": 1}, "count": 0}}, ">= 1"),
        ("def f(way: Literal['a', 'b']): 1/0", {"way": "c"}, "Invalid enum value 'c'"),
        ("def f(prices: list[Price]): 1/0", {"prices": [{"metal": "tin"}]}, "missing required field `amount`"),
        ("def f(**more: int): 1/0", {"a": "x"}, "the argument 'a': Expected `int`"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_the_callers_fault(
    serve: Serve, code: str, arguments: dict[str, Any], said: str
) -> None:
    """The handler is not run: it would raise something else."""
    reply, _ = serve(code, **arguments)
    assert (reply.fault, said in reply.text) == ("caller", True), reply.text


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f() -> int: return 'x'", "its answer: Expected `int`, got `str`"),
        ("def f() -> Price: return Price('tin', 'much')", "its answer: Expected `float`, got `str` - at `$.amount`"),
        ("def f(): return object()", "its answer cannot be passed"),
        ("def f(): return [[]] * 300_000", "its answer cannot be passed"),
        (f"def f(): return bytes({MAX_REPLY + 1})", "its answer cannot be passed"),
        ("def g(): pass", "has no function 'f'"),
        ("f = 5", "has no function 'f'"),
        ("def f() -> NoSuchType: pass", "its type hints cannot be read"),
        ("def f() -> Foreign: return 5", "its answer has a type hint that no plain data fits"),
    ],
)  # fmt: skip
def test_answers_that_do_not_fit_are_the_apps_fault(serve: Serve, code: str, said: str) -> None:
    reply, value = serve(code)
    assert (reply.fault, said in reply.text, value) == ("app", True, None), reply.text


def test_a_type_that_no_data_fits_is_the_apps_fault(serve: Serve) -> None:
    for hint in ("Foreign", "list[Foreign]", "Callable"):
        reply, _ = serve(f"def f(x: {hint}): 1/0", x=[5])
        assert (reply.fault, "no plain data fits" in reply.text) == ("app", True), reply.text


def test_what_a_handler_raises_is_told_and_goes_on(serve: Serve) -> None:
    with pytest.raises(ZeroDivisionError):
        serve("def f(): 1/0")
    reply, _ = read_reply(serve.kept[0])  # type: ignore[attr-defined]
    assert (reply.fault, reply.text) == ("app", "ZeroDivisionError: division by zero")


def test_a_long_error_is_cut(serve: Serve) -> None:
    with pytest.raises(ValueError, match="xxx"):
        serve("def f(): raise ValueError('x' * 100_000 + chr(0xD800))")
    reply, _ = read_reply(serve.kept[0])  # type: ignore[attr-defined]
    assert reply.text.startswith("ValueError: xxx")


def test_a_module_of_pythons_own_name_is_not_taken_for_the_apps(serve: Serve) -> None:
    """``json`` is there already: its functions are no handlers."""
    reply, _ = serve("def f(): pass", module="json")
    assert (reply.fault, "'json' is called like another one" in reply.text) == ("app", True)


def test_where_no_files_are_seen_the_source_is_run(serve: Serve) -> None:
    def translate(source: str, path: str) -> Any:
        return compile(source.replace("tin", "lead"), path, "exec", dont_inherit=True)

    assert serve("def f(): return 'tin'")[1] == "tin"  # the control
    assert serve("def f(): return 'tin'", translate=translate)[1] == "lead"

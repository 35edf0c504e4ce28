"""A gate is compiled into one function: everything else of it stays as it was."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import cloudpickle
import msgspec
import pytest

from kernel_runtime.domain.errors import Invalid, NotFound
from kernel_runtime.guest import digests, gates

if TYPE_CHECKING:
    from pathlib import Path


class Copies:
    """Stands for the host: counts where the code has stopped."""

    def __init__(self) -> None:
        self.stops: list[tuple[str, int, dict[str, Any]]] = []

    def __call__(self, reached: Any) -> None:
        frame = gates.here.frame
        assert frame is not None
        self.stops.append((reached.function, reached.line, dict(frame.f_locals)))


@pytest.fixture
def copies() -> Copies:
    return Copies()


@pytest.fixture
def set_gates(copies: Copies) -> gates.Gates:
    return gates.Gates(copies, lambda: "cell")


def plain(a: int, b: int = 2, *rest: int, c: int = 3) -> int:
    """Its text."""
    return a + b + sum(rest) + c


def test_the_next_call_stops_once_and_goes_on(set_gates: gates.Gates, copies: Copies):
    code = plain.__code__
    set_gates.set("plain", globals())
    assert plain(1, 5, 7, c=0) == 13
    assert copies.stops == [("plain", code.co_firstlineno + 2, {"a": 1, "b": 5, "rest": (7,), "c": 0})]
    assert plain.__code__ is code
    assert plain(1) == 6
    assert len(copies.stops) == 1


def test_only_calls_that_satisfy_the_condition(set_gates: gates.Gates, copies: Copies):
    set_gates.set("plain", globals(), "a > 3 and not rest")
    assert [plain(1), plain(9, 1, 1), plain(4), plain(5)] == [6, 14, 9, 10]
    assert [stop[2]["a"] for stop in copies.stops] == [4]


def test_a_condition_that_raises_is_told_once_and_the_cell_goes_on(
    set_gates: gates.Gates, copies: Copies, capsys: pytest.CaptureFixture[str]
):
    set_gates.set("plain", globals(), "10 / a > 1")
    assert [plain(0), plain(0), plain(20), plain(4), plain(5)] == [5, 5, 25, 9, 10]
    assert [stop[2] for stop in copies.stops] == [{"a": 4, "b": 2, "rest": (), "c": 3}], "no variable of ours"
    assert capsys.readouterr().err == (
        "gate in plain: its condition 10 / a > 1 raised ZeroDivisionError: division by zero; "
        "such calls do not stop (said once)\n"
    )
    set_gates.set("plain", globals(), "nosuch > 3")
    assert plain(1) == 6
    assert "raised NameError: name 'nosuch' is not defined; " in capsys.readouterr().err
    with pytest.raises(Invalid, match="no expression"):
        set_gates.set("plain", globals(), "a >")


def test_what_is_no_error_of_the_conditions_goes_on_its_way(set_gates: gates.Gates):
    def interrupted() -> None:
        raise KeyboardInterrupt

    def twice(n: int) -> int:
        return n * 2

    space: dict[str, Any] = {"twice": twice}
    twice.__globals__["interrupting"] = interrupted
    set_gates.set("twice", space, "interrupting()")
    with pytest.raises(KeyboardInterrupt):
        twice(1)
    set_gates.set("twice", space, "n > 3", wait=True)
    assert twice(1) == 2
    with pytest.raises(gates.StoppedAtGate):
        twice(4)
    assert twice(4) == 8, "the control: the gate is off"


def test_a_condition_that_calls_its_own_function_ends_with_its_gate(set_gates: gates.Gates):
    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    set_gates.set("fib", {"fib": fib}, "fib(n) > 3")
    with pytest.raises(RecursionError) as caught:
        fib(5)
    assert caught.value.__notes__ == ["gate in fib: its condition fib(n) > 3 calls it again; the gate is off"]
    assert set_gates.names() == []
    assert fib(5) == 5


def test_an_expression_that_raises_is_told_as_python_says_it():
    def asked(expression: str, **edits: str) -> list[str]:
        value = 1
        gates.here.frame = sys._getframe()
        try:
            return gates.read_value(msgspec.json.encode((edits, expression)))
        finally:
            gates.here.frame = None
            del value

    assert asked("value + 1") == ["", "2"]
    assert asked("1", nosuch="1") == ["NameError", "the function has no local variable 'nosuch'"]
    assert asked("{}['it\\'s \"a\"']") == ["KeyError", "'it\\'s \"a\"'"]
    assert asked("[].pop('\x1b')")[0] == "TypeError"
    assert asked("(_ for _ in ()).throw(ValueError('a\\x1bb\\n c'))") == ["ValueError", "a\\x1bb c"]


def test_text_signature_and_lines_stay(set_gates: gates.Gates):
    def failing() -> None:
        """Says no."""
        raise ValueError("no")

    line = failing.__code__.co_firstlineno
    set_gates.set("failing", {"failing": failing})
    assert failing.__doc__ == "Says no."
    assert failing.__code__.co_qualname.endswith("<locals>.failing")
    with pytest.raises(ValueError, match="no") as caught:
        failing()
    assert caught.traceback[-1].lineno + 1 == line + 2


def test_closures_methods_and_super_keep_what_they_hold(set_gates: gates.Gates, copies: Copies):
    first, second = 10, 20

    class Base:
        def scaled(self, by: int) -> int:
            return by

    class Child(Base):
        def scaled(self, by: int) -> int:
            return super().scaled(by) + first * second

    def inner(by: int) -> int:
        nonlocal second
        second += by
        return first + second

    names = {"Child": Child, "inner": inner}
    set_gates.set("Child.scaled", names)
    set_gates.set("inner", names)
    assert Child().scaled(1) == 201
    assert inner(1) == 31
    assert second == 21
    assert [stop[0] for stop in copies.stops] == ["Child.scaled", "inner"]


class Counter:
    """Names with two underscores are the class's own."""

    __step = 2

    def __init__(self) -> None:
        self.__n = 0

    def bump(self) -> int:
        self.__n += self.__step
        return self.__n

    def bump_within(self) -> int:
        def inner() -> int:
            return self.__n + len(__class__.__name__)  # type: ignore[name-defined]

        return inner()

    def Counter(self) -> int:  # noqa: N802 - called as its class
        return self.__n

    def __hidden(self) -> int:
        return self.__n

    def seen(self) -> int:
        return self.__hidden()

    class _Inner:
        __n = 7

        def bump(self) -> int:
            return self.__n


def test_private_names_are_those_of_the_class(set_gates: gates.Gates, copies: Copies):
    for name in ("Counter.bump", "Counter.bump_within", "Counter.Counter", "Counter._Inner.bump"):
        set_gates.set(name, globals())
    counter = Counter()
    assert [counter.bump(), counter.bump_within(), counter.Counter(), Counter._Inner().bump()] == [2, 9, 2, 7]
    assert len(copies.stops) == 4
    set_gates.set("Counter.bump", globals(), "self.__n > 2")
    assert [counter.bump(), counter.bump()] == [4, 6]
    assert len(copies.stops) == 5
    set_gates.set("Counter.__hidden", globals())
    assert counter.seen() == 6
    assert len(copies.stops) == 6


def test_a_function_within_a_method_has_the_names_of_its_class(set_gates: gates.Gates, copies: Copies):
    class Local:
        __n = 5

        def made(self, extra: int) -> Any:
            def bump() -> int:
                return self.__n + extra + (super(Local, self) is not None)

            return bump

    bump = Local().made(1)
    set_gates.set("bump", {"bump": bump})
    assert bump() == 7
    assert len(copies.stops) == 1


def test_a_condition_that_would_make_another_function_of_it_is_refused(set_gates: gates.Gates):
    outside = 1

    def inner() -> None:
        """Does not use what is outside."""

    for condition, why in {
        "(yield)": "as",
        "await a": "as",
        "outside": "outside is outside of it",
    }.items():
        with pytest.raises(Invalid, match=rf"the condition cannot stand in .*inner, {why}"):
            set_gates.set("inner", {"inner": inner}, condition)
    assert set_gates.names() == []
    del outside


def test_a_condition_may_use_what_is_declared_global_or_is_imported(set_gates: gates.Gates, copies: Copies):
    def counted() -> str:
        """Its text, of
        several lines."""
        global calls
        calls += 1
        return """a
        b""" + os.path.basename(os.sep)

    counted.__globals__["calls"] = 1
    set_gates.set("counted", {"counted": counted}, "calls == 2")
    assert [counted(), counted()] == ["a\n        b"] * 2
    assert len(copies.stops) == 1
    assert (counted.__doc__ or "").splitlines()[1].strip() == "several lines."


#: What stands in the file now, in place of ``return x * 2``.
EDITED = {
    "same": ("def f(x):\n    return x * 2\n", ""),
    "other indent": ("def f(x):\n  # why\n  return x * 2\n", ""),
    "constant": ("def f(x):\n    return x * 1000\n", "was its file edited"),
    "type": ("def f(x):\n    return x * 2.0\n", "was its file edited"),
    "name": ("def f(y):\n    return y * 2\n", "was its file edited"),
    "within": ("def f(x):\n    return (lambda: x * 2)()\n", "was its file edited"),
    "cell": ("def f(x):\n    nonlocal z\n    return x * 2\n", "was its file edited"),
    "moved": ("def g(x):\n    return x * 2\ndef f(x):\n    return x * 2\n", "was its file edited"),
    "moved down": ("\n\ndef f(x):\n    return x * 2\n", "was its file edited"),
    "cut": ("", "source of f"),
}


@pytest.mark.parametrize("edit", EDITED)
def test_text_that_is_not_what_runs_is_not_compiled(
    set_gates: gates.Gates, copies: Copies, tmp_path: Path, edit: str
):
    text, said = EDITED[edit]
    file = tmp_path / "edited.py"
    file.write_text("def f(x):\n    return x * 2\n")
    space: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), space)
    file.write_text(text)
    if said:
        with pytest.raises(Invalid, match=said):
            set_gates.set("f", space)
    else:
        set_gates.set("f", space)
    assert space["f"](3) == 6
    assert len(copies.stops) == (0 if said else 1)


def test_a_function_under_two_names_has_one_gate(set_gates: gates.Gates, copies: Copies):
    code, space = plain.__code__, {"plain": plain, "other": plain}
    set_gates.set("plain", space)
    set_gates.set("other", space)
    assert set_gates.names() == ["other"]
    assert plain(1) == 6
    assert [stop[0] for stop in copies.stops] == ["other"]
    assert plain.__code__ is code


def test_gates_are_no_part_of_the_state_that_is_read(set_gates: gates.Gates):
    before = digests.digest(plain)
    set_gates.set("plain", globals())
    assert digests.digest(plain) != before
    set_gates.lift()
    assert digests.digest(plain) == before


def test_a_generator_stops_at_its_beginning(set_gates: gates.Gates, copies: Copies):
    def numbers(most: int) -> Any:
        yield from range(most)

    set_gates.set("numbers", {"numbers": numbers})
    both = numbers(3), numbers(2)
    assert [list(made) for made in both] == [[0, 1, 2], [0, 1]]
    assert [stop[2] for stop in copies.stops] == [{"most": 3}]


def test_waiting_ends_the_cell(set_gates: gates.Gates):
    set_gates.set("plain", globals(), wait=True)
    with pytest.raises(gates.StoppedAtGate, match=r"plain.*%gate resume"):
        plain(1)
    assert plain(1) == 6


def test_the_cells_own_handlers_do_not_go_on_after_it(set_gates: gates.Gates):
    ran = []
    set_gates.set("plain", globals(), wait=True)
    with pytest.raises(gates.StoppedAtGate):
        try:
            plain(1)
        except Exception:
            ran.append("swallowed")
        finally:
            ran.append("finally")
    assert ran == ["finally"]


def test_a_function_that_was_defined_anew_has_no_gate(set_gates: gates.Gates):
    def first() -> None: ...

    def second() -> None: ...

    for name in ("a", "b", "c"):
        set_gates.set(name, {name: first if name == "a" else second})
    assert set_gates.listing({"a": first, "c": second}) == ["a", "c"]
    assert set_gates.listing({"a": second}) == [
        "a (as it was defined before)",
        "c (as it was defined before)",
    ]


def test_a_gate_does_not_keep_its_function_from_other_processes(set_gates: gates.Gates, copies: Copies):
    def made(a: int) -> int:
        return a * 2

    set_gates.set("made", {"made": made}, "a > 1")
    elsewhere = cloudpickle.loads(cloudpickle.dumps(made))
    assert elsewhere(3) == 6
    assert not copies.stops
    assert made(3) == 6
    assert len(copies.stops) == 1


def test_off_gives_the_code_back(set_gates: gates.Gates, copies: Copies):
    code = plain.__code__
    set_gates.set("plain", globals())
    set_gates.set("plain", globals(), "a == 1")
    assert plain.__code__ is not code
    set_gates.off("plain")
    assert plain.__code__ is code
    assert plain(1) == 6
    assert not copies.stops
    with pytest.raises(NotFound, match="no gate in 'plain'"):
        set_gates.off("plain")


def test_code_that_a_reload_has_given_stays(set_gates: gates.Gates):
    def kept(a: int) -> int:
        return a

    def newer(a: int) -> int:
        return a * 2

    set_gates.set("kept", {"kept": kept})
    kept.__code__ = newer.__code__
    set_gates.off("kept")
    assert kept(2) == 4


async def waiting() -> None: ...


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unknown", "no function 'unknown'"),
        ("len", "no function written in Python"),
        ("waiting", "coroutine"),
        ("made", "source"),
        ("shorter", "no plain `def`"),
    ],
)
def test_what_can_have_no_gate_says_so(set_gates: gates.Gates, name: str, said: str):
    space: dict[str, Any] = {"len": len, "waiting": waiting, "shorter": lambda: 1}
    exec("def made(): return 1", space)
    with pytest.raises((Invalid, NotFound), match=said):
        set_gates.set(name, space)


def test_locals_of_a_running_function_are_changed():
    def outer() -> tuple[int, list[int]]:
        kept = [1]
        number = 1
        gates.change(sys._getframe(), {"number": "number + len(kept)", "kept": "[5]"})
        return number, kept

    assert outer() == (2, [5])
    with pytest.raises(NameError, match="no local variable 'other'"):
        gates.change(sys._getframe(), {"other": "1"})

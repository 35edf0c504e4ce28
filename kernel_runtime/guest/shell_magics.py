"""``%gate``, and stand-ins for the magics that the front answers: they say where these belong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher
from IPython.core.error import UsageError
from IPython.core.magic import no_var_expand

from kernel_runtime.domain.amounts import is_whole
from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.domain.magics import FRONT, GATE_ACTIONS, in_sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.guest.shell_kernel import GuestKernel

_GATE = re.compile(
    r"(?P<wait>--wait\s+)?(?P<name>[^\W\d][\w.]*)(?:\s+if\s+(?P<condition>.+?))?(?P<late>\s+--wait)?"
)
_OFF = re.compile(r"\s*%gate\s+off\s+\S*")
GATE_HELP = """%gate FUNCTION [if EXPR] [--wait]

    The next call of FUNCTION (for which EXPR holds, with its arguments) makes a frozen copy right
    there; the cell goes on, or with --wait ends there. FUNCTION: f, Class.method, module.f.
    A gate goes off when it is reached.

%gate
    Lists the gates that are set.
%gate off FUNCTION
    Gives the function its own code back.
%gates
    Lists the copies that were made; each has a number N. In cells of their own:
    %gate show N · %gate eval N EXPR · %gate set N NAME EXPR · %gate resume N · %gate drop N
    For a guest of %%sandbox: %sandbox gates, %sandbox gate show N and so on.
"""


def install(kernel: GuestKernel) -> None:
    """Register them with the shell."""
    register = kernel.shell.magics_manager.register_function
    register(_gate_magic(kernel), "line", "gate")
    kernel.shell.Completer.custom_matchers.append(_matcher(kernel))
    for name, meaning in FRONT.items():
        register(_stand_in(name, meaning), "line", name)


def _stand_in(name: str, meaning: str) -> Callable[[str], None]:
    def stand_in(line: str) -> None:
        raise UsageError(
            f"%{name} is answered outside the sandbox: it must stand in a cell of its own, without other code. "
            f"For a guest of %%sandbox it is `{in_sandbox(name)}`"
        )

    stand_in.__name__ = name
    stand_in.__doc__ = f"%{name}: {meaning}. In a cell of its own; `%{name}?` there shows more. For a guest of %%sandbox: {in_sandbox(name)}."
    return stand_in


def _gate_magic(kernel: GuestKernel) -> Callable[[str], None]:
    @no_var_expand  # a condition may hold braces
    def gate(line: str) -> None:
        try:
            print(_perform(kernel, line.strip()))
        except KernelRuntimeError as error:
            raise UsageError(str(error)) from None

    gate.__doc__ = GATE_HELP
    return gate


def _matcher(kernel: GuestKernel) -> Any:
    def gates(context: CompletionContext) -> Any:
        """After ``%gate off`` what has one, and nothing else."""
        asked = _OFF.fullmatch(context.text_until_cursor)
        names = [name for name in kernel.gates.names() if asked and name.startswith(context.token)]
        return {"completions": [SimpleCompletion(name, type="function") for name in names], "suppress": True}

    return context_matcher(identifier="kernel_runtime.gates")(gates)


def _perform(kernel: Any, line: str) -> str:
    gates = kernel.gates
    words = line.split()
    if not words:
        return f"gates are set in: {', '.join(gates.listing(kernel.shell.user_ns)) or 'no function'}"
    if words[0] == "off" and len(words) == 2:
        gates.off(words[1])
        return f"no gate in {words[1]} any more"
    if words[0] in GATE_ACTIONS and len(words) > 1 and is_whole(words[1].lstrip("#")):
        raise UsageError(
            f"%gate {words[0]} must stand in a cell of its own, without other code; "
            f"for a guest of %%sandbox it is `%sandbox gate {words[0]} …`"
        )
    asked = _GATE.fullmatch(line)
    if asked is None:
        raise UsageError(f"%gate: {line!r} is not FUNCTION [if EXPR] [--wait]; %gate? shows more")
    if kernel.begin.level == "strict":
        raise UsageError("%gate: level strict has no gates: their conditions would not be restricted Python")
    waits = bool(asked["wait"] or asked["late"])
    gate = gates.set(asked["name"], kernel.shell.user_ns, asked["condition"] or "", wait=waits)
    condition = f" for which {gate.condition}" if gate.condition else ""
    then = "makes a copy there and ends its cell" if waits else "makes a copy there and goes on"
    return f"the next call of {gate.name}{condition} {then}; %gates (for a guest of %%sandbox: %sandbox gates) lists the copies"

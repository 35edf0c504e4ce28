"""Kernels started by jupyter_client from an installed kernelspec."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import KernelManager

from kernel_runtime.jupyter import kernelspec
from tests.jupyter.kernels import MEMORY_HISTORY, PATIENCE, Kernel, Message, served

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = kernelspec.NAME
PLAIN = "plain-ipykernel"


@contextlib.contextmanager
def started(*arguments: str, name: str = OURS, warm: bool = False, **options: Any) -> Iterator[Kernel]:
    """A kernel of the installed kernelspec ``name``, ready; shut down at the end.

    ``warm``: with a second zygote that preloads pandas and so on, as users have it.
    """
    env = {**os.environ, "KERNEL_RUNTIME_WARM": str(int(warm))}
    given = [MEMORY_HISTORY, *arguments]
    with served(KernelManager(kernel_name=name), extra_arguments=given, env=env, **options) as kernel:
        yield kernel


def front_of(kernel: Kernel) -> int:
    """The pid of the front."""
    return int(kernel.km.provisioner.pid)


def result(outputs: list[Message]) -> str:
    """The text of the cell's result."""
    return "".join(m["content"]["data"]["text/plain"] for m in outputs if m["msg_type"] == "execute_result")


def check_alive(kernel: Kernel, timeout: float = PATIENCE) -> None:
    """The next cell runs as if nothing had been."""
    reply, outputs = kernel.run("1+1", timeout=timeout)
    assert reply["content"]["status"] == "ok", reply["content"]
    assert result(outputs) == "2"
    assert kernel.km.is_alive()


def explained(reply: Message, outputs: list[Message]) -> str:
    """Name and message of the cell's one error output, which the reply repeats."""
    errors = [m["content"] for m in outputs if m["msg_type"] == "error"]
    assert len(errors) == 1, [m["msg_type"] for m in outputs]
    assert reply["content"]["status"] == "error"
    assert (reply["content"]["ename"], reply["content"]["evalue"]) == (
        errors[0]["ename"],
        errors[0]["evalue"],
    )
    return f"{errors[0]['ename']}: {errors[0]['evalue']}"

"""papermill's own engine, on the sandboxed kernel only."""

from __future__ import annotations

from typing import Any

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from papermill.engines import NBClientEngine, NotebookExecutionManager

import kernel_runtime

KERNEL = "kernel-runtime"
LIMITS = ("memory", "cpu", "wall", "pids", "disk", "output")


class SandboxEngine(NBClientEngine):
    """papermill's own engine on the kernel ``kernel-runtime``, whatever kernelspec a notebook names.

    Options beyond papermill's: ``memory``, ``cpu``, ``wall``, ``pids``, ``disk``, ``output`` (amounts
    such as ``"512M"`` or ``"30s"``) and ``level`` (``strict``, ``moderate``, ``permissive``).
    """

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        """Ours, always: a kernel without walls in its place would fail open."""
        if name not in (None, KERNEL):
            raise kernel_runtime.Invalid(
                f"-k {name}: the engine kernel_runtime runs notebooks in the kernel {KERNEL!r} only; leave -k out"
            )
        return KERNEL

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        """Python; a notebook in another language is refused before anything runs."""
        named = language or nb.metadata.get("kernelspec", {}).get("language") or "python"
        if named != "python":
            raise kernel_runtime.Invalid(f"the notebook is written in {named}; {KERNEL} runs Python")
        return "python"

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, **options: Any
    ) -> None:
        """Run the cells behind the walls, with the limits and the level among ``options``."""
        cls.nb_language(nb_man.nb)
        require_kernelspec()
        flags = kernel_flags({name: options.pop(name) for name in (*LIMITS, "level") if name in options})
        arguments = [*options.pop("extra_arguments", ()), *flags]
        super().execute_managed_notebook(nb_man, KERNEL, extra_arguments=arguments, **options)


def require_kernelspec() -> None:
    """``NotFound`` when the kernel is not installed where Jupyter looks."""
    try:
        KernelSpecManager().get_kernel_spec(KERNEL)
    except NoSuchKernel:
        raise kernel_runtime.NotFound(
            f"Jupyter knows no kernel {KERNEL!r} here; install it with: kernel-runtime install --sys-prefix"
        ) from None


def kernel_flags(given: dict[str, Any]) -> list[str]:
    """``{"memory": "512M"}`` → the kernel's command-line flags; the kernel refuses cells if one is no amount."""
    return [f"--KernelRuntime.{name}={value}" for name, value in given.items() if value is not None]

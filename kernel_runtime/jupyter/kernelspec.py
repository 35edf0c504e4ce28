"""The kernelspec: written whole or not at all, listed, checked, removed."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.errors import Invalid, NotFound
from kernel_runtime.jupyter import paths
from kernel_runtime.jupyter.identity import has_debugger
from kernel_runtime.jupyter.settings import NAMES, Settings, Source, apply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME = "kernel-runtime"
DISPLAY_NAME = "Python (kernel_runtime)"
MODULE = "kernel_runtime.jupyter.kernel"
LOGOS = ("logo-32x32.png", "logo-64x64.png", "logo-svg.svg")
_NAME = re.compile(r"[a-z0-9._-]+", re.IGNORECASE)


class Found(msgspec.Struct, frozen=True):
    """A kernelspec of ours; ``trouble`` says why it cannot start, empty when it can."""

    name: str
    path: str
    display_name: str
    python: str
    trouble: str = ""


def kernels_dir(*, user: bool = False, sys_prefix: bool = False, prefix: str = "") -> Path:
    """Where to install; without a choice as Jupyter does: the environment's, or the user's."""
    if sum((user, sys_prefix, bool(prefix))) > 1:
        raise Invalid("install: choose one of --user, --sys-prefix and --prefix")
    if prefix:
        return Path(prefix).expanduser().absolute() / "share" / "jupyter" / "kernels"
    in_environment = sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK)
    if sys_prefix or (in_environment and not user):
        return Path(sys.prefix, "share", "jupyter", "kernels")
    return paths.data_dir() / "kernels"


def make_spec(display_name: str, amounts: Mapping[str, str], extra: Sequence[str] = ()) -> dict[str, Any]:
    """The content of ``kernel.json``; ``amounts`` (memory, level, …) are checked first."""
    apply(Settings(), [Source("install", dict(amounts))])
    unknown = [name for name in amounts if name not in NAMES]
    if unknown:
        raise Invalid(f"install: no setting is called {unknown[0]!r}; there are {', '.join(NAMES)}")
    flags = [word for name, amount in amounts.items() for word in (f"--{name}", amount)]
    return {
        # -P: what lies beside the notebook is not the front's to import
        "argv": [sys.executable, "-P", "-m", MODULE, "-f", "{connection_file}", *flags, *extra],
        "display_name": display_name,
        "language": "python",
        "interrupt_mode": "message",
        "metadata": {"debugger": has_debugger(), "kernel_runtime": {"settings": dict(amounts)}},
    }


def write_spec(
    directory: Path,
    name: str = NAME,
    display_name: str = DISPLAY_NAME,
    amounts: Mapping[str, str] | None = None,
    extra: Sequence[str] = (),
) -> Path:
    """Install under ``directory``/``name``; an older one is replaced in one step. Its path."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"name: {name!r} is no kernel name; use letters, digits, '.', '_' and '-'")
    spec = make_spec(display_name, amounts or {}, extra)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=directory, prefix=f".{name}-"))
    except OSError as error:
        raise Invalid(f"{directory}: cannot be written ({error.strerror}); try --user or --prefix") from None
    try:
        _fill(staged, spec)
        _swap(staged, directory / name)
    except OSError as error:
        raise Invalid(f"{directory / name}: not installed: {error}") from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return directory / name


def remove_spec(directory: Path, name: str = NAME) -> Path:
    """Uninstall; ``NotFound`` when it is not there, ``Invalid`` when it is not ours."""
    path = directory / name
    if not (path / "kernel.json").is_file():
        raise NotFound(f"no kernel {name!r} in {directory}; `jupyter kernelspec list` shows what there is")
    if not is_ours(_read(path / "kernel.json")):
        raise Invalid(f"{path} is not a kernel_runtime kernel; `jupyter kernelspec remove {name}` removes it")
    doomed = Path(tempfile.mkdtemp(dir=directory, prefix=f".{name}-"))
    path.rename(doomed / name)
    shutil.rmtree(doomed)
    return path


def search_dirs() -> list[Path]:
    """Every directory Jupyter looks for kernels in, the strongest first."""
    given = [Path(p) for p in os.environ.get("JUPYTER_PATH", "").split(os.pathsep) if p]
    shared = [
        Path(sys.prefix, "share", "jupyter"),
        Path("/usr/local/share/jupyter"),
        Path("/usr/share/jupyter"),
    ]
    return [path / "kernels" for path in dict.fromkeys([*given, paths.data_dir(), *shared])]


def list_specs(directories: Sequence[Path] | None = None) -> list[Found]:
    """Our kernelspecs, each checked."""
    files = [file for root in directories or search_dirs() for file in sorted(root.glob("*/kernel.json"))]
    return [check(file.parent) for file in files if is_ours(_read(file))]


def check(path: Path) -> Found:
    """One kernelspec: whether the interpreter and the package it names are still there."""
    spec = _read(path / "kernel.json")
    argv = spec.get("argv") or [""]
    python = str(argv[0])
    trouble = ""
    if not os.access(python, os.X_OK):
        trouble = (
            f"its environment is gone: {python} does not exist. Install it again from the environment "
            f"you use (kernel-runtime install), or remove it (kernel-runtime uninstall --name {path.name})"
        )
    return Found(path.name, str(path), str(spec.get("display_name", path.name)), python, trouble)


def is_ours(spec: Mapping[str, Any]) -> bool:
    """Whether a ``kernel.json`` starts this package's kernel."""
    argv = spec.get("argv")
    return isinstance(argv, list) and MODULE in argv


def _read(file: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):  # somebody else's broken file: not ours
        return {}


def _fill(folder: Path, spec: dict[str, Any]) -> None:
    folder.chmod(0o755)
    source = resources.files("kernel_runtime.jupyter") / "resources"
    for logo in LOGOS:
        (folder / logo).write_bytes((source / logo).read_bytes())
    (folder / "kernel.json").write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n")


def _swap(staged: Path, target: Path) -> None:
    """Put ``staged`` in ``target``'s place; what was there is removed afterwards."""
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-old-"))
    try:
        if target.exists():
            target.rename(old / "was")
        staged.rename(target)
    except OSError:
        if (old / "was").exists() and not target.exists():
            (old / "was").rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)

"""Writes approved scopes into a policy file: what stands in it stays as it is, to the letter."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.broker.policies import read_source
from kernel_runtime.domain.errors import Conflict, Invalid
from kernel_runtime.domain.manifest import Anchors
from kernel_runtime.domain.policy import parse_policy_file
from kernel_runtime.domain.rules import Effect
from kernel_runtime.domain.scopes import parse_scope

if TYPE_CHECKING:
    from kernel_runtime.domain.policy import Source
    from kernel_runtime.domain.rules import Layer

_ALLOW = re.compile(r"^allow[ \t]*=[ \t]*\[", re.MULTILINE)


def approve(path: Path, scopes: list[str], layer: Layer) -> Source:
    """Allow ``scopes`` in the policy file ``path``, which is made if there is none; the file, read anew.

    ``Invalid`` or ``Conflict`` when the file cannot be relied on, or would contradict itself: then it
    is left as it was.
    """
    wanted = [str(parse_scope(scope)) for scope in scopes]
    before = read_source(path, layer)  # refuses a file that somebody else could have written
    text = path.read_text(encoding="utf-8-sig") if before is not None else ""
    held = {str(rule.scope) for rule in before.rules if rule.effect is Effect.ALLOW} if before else set()
    added = [scope for scope in dict.fromkeys(wanted) if scope not in held]
    if added:
        _replace(path.resolve(), _checked(_with(text, added), path, layer, held | set(added)))
    source = read_source(path, layer)
    if source is None:
        raise Conflict(f"{path} is gone again")
    return source


def _with(text: str, scopes: list[str]) -> str:
    """The text with lines in its list ``allow``, which comes first where there is none yet."""
    lines = "".join(f"  {msgspec.json.encode(scope).decode('utf-8')},\n" for scope in scopes)
    if found := _ALLOW.search(text):
        return f"{text[: found.end()]}\n{lines}{text[found.end() :]}"
    return f"allow = [\n{lines}]\n{text}"


def _checked(text: str, path: Path, layer: Layer, allowed: set[str]) -> str:
    """The text, if it says what was meant and nothing else."""
    base = str(path.absolute().parent)
    try:
        source = parse_policy_file(text, str(path), layer, Anchors(base, str(Path.home())))
    except Invalid as error:
        raise Conflict(f"it would not fit into {path}: {error}") from None
    if not allowed <= {str(rule.scope) for rule in source.rules if rule.effect is Effect.ALLOW}:
        raise Conflict(f"{path} is written in a way that nothing can be added to; add the lines yourself")
    return text


def _replace(path: Path, text: str) -> None:
    """All of it or nothing, and for its owner alone to write."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror or error}") from None

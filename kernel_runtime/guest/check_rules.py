"""The check's policies: the one that comes with the package, read inside by `strict` and outside by the
check, and those of an owner, read outside.
"""

from __future__ import annotations

import functools
import os
import stat
from typing import TYPE_CHECKING

from kernel_runtime.domain.check_policy import MAX_POLICY, Joined, Severity, parse_policy, parse_section
from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kernel_runtime.domain.check_policy import Policy, Section

_FILE = "check_policy.toml"


@functools.cache
def default_policy() -> Policy:
    """The rules of ``check_policy.toml``, beside this file."""
    with open(os.path.join(os.path.dirname(__file__), _FILE), encoding="utf-8") as file:
        return parse_policy(file.read(), _FILE)


def sections(path: str, held: Iterable[Section] = ()) -> list[Section]:
    """Those of the files that hold anyway, and that of a file that was named."""
    named = parse_section(_read(path), path) if path else None
    return [*held, *([named] if named is not None else [])]


def load_policy(path: str, held: Iterable[Section] = ()) -> Policy:
    """The policies of a file and of those that hold anyway, over the one of the package."""
    return joined(sections(path, held))


def joined(found: Sequence[Section]) -> Policy:
    """These over the package's policy; that one alone without any."""
    return Joined(default_policy(), found) if found else default_policy()


def blocked_by(path: str, held: Iterable[Section] = ()) -> list[tuple[str, str, str]]:
    """The rules of owners' files that refuse, as kind, pattern and suggestion: strict's language keeps them,
    beside the package's."""
    rules = [rule for section in sections(path, held) for rule in section.rules]
    grave = (rule for rule in rules if rule.severity is Severity.ERROR)
    return [(rule.kind, rule.pattern, rule.suggestion) for rule in grave]


def _read(path: str) -> str:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Invalid(f"{path}: a policy is a regular file")
            return file.read(MAX_POLICY + 1).decode()
    except OSError as error:
        raise Invalid(f"{path}: the policy cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise Invalid(f"{path}: the policy is not UTF-8 text") from None


def _without_waiting(path: str, flags: int) -> int:
    """A FIFO has no writer."""
    return os.open(path, flags | os.O_NONBLOCK)

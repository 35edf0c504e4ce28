"""The check's policies: the one that comes with the package, read inside by `strict` and outside by the
check, and those of an owner, read outside.
"""

from __future__ import annotations

import functools
import os
import stat

from kernel_runtime.domain.check_policy import MAX_POLICY, Policy, Severity, parse_policy
from kernel_runtime.domain.errors import Invalid

_FILE = "check_policy.toml"


@functools.cache
def default_policy() -> Policy:
    """The rules of ``check_policy.toml``, beside this file."""
    with open(os.path.join(os.path.dirname(__file__), _FILE), encoding="utf-8") as file:
        return parse_policy(file.read(), _FILE)


def load_policy(path: str) -> Policy:
    """The policy of a file, over the one of the package; that one alone without a file."""
    return parse_policy(_read(path), path, default_policy()) if path else default_policy()


def blocked_by(path: str) -> list[tuple[str, str, str]]:
    """The rules of a file that refuse, as kind, pattern and suggestion: strict's language keeps them,
    beside the package's."""
    rules = parse_policy(_read(path), path).rules if path else ()
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

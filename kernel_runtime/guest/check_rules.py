"""The check's policy that comes with the package: read inside by `strict`, outside by the check."""

from __future__ import annotations

import functools
import os

from kernel_runtime.domain.check_policy import Policy, parse_policy

_FILE = "check_policy.toml"


@functools.cache
def default_policy() -> Policy:
    """The rules of ``check_policy.toml``, beside this file."""
    with open(os.path.join(os.path.dirname(__file__), _FILE), encoding="utf-8") as file:
        return parse_policy(file.read(), _FILE)

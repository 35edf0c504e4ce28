"""``doctor``: the table, the fixes, the exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result


def test_it_tries_the_walls(invoke: Callable[..., Result]) -> None:
    walls = json.loads(invoke("doctor", "--json").output)
    assert {"name", "status", "detail", "fix"} <= set(walls[0])
    result = invoke("doctor")
    good = all(wall["status"] != "missing" for wall in walls)
    assert result.exit_code == (0 if good else 4), result.output
    assert all(wall["name"] in result.output for wall in walls)

"""What a table of attacks counts as passed: no row goes without its control unless that is foreseen."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from tests.walls import test_files, test_kernel_surface
from tests.walls.rows import KERNEL, OPTIONAL, PLAIN, SECCOMP, Outcomes, Row, check_refused

ROOT = pytest.mark.skipif(os.getuid() != 0, reason="needs root: others are refused more than walls do")
WALLS = pytest.mark.parametrize(
    "without", [SECCOMP, KERNEL, pytest.param(PLAIN, marks=ROOT)], ids=["seccomp", "kernel", "plain"]
)


class Told:
    """Outcomes as a test tells them: behind all walls, without the row's own, and without any."""

    def __init__(self, walled: str, control: str, plain: str) -> None:
        self.walled, self.control, self.plain = walled, control, plain

    def of(self, row: Row, without: tuple[str, ...] | None = ()) -> str:
        if without == ():
            return self.walled
        return self.plain if without is PLAIN else self.control


def check(name: str, without: Any, *told: str) -> None:
    check_refused(cast("Outcomes", Told(*told)), Row(name, "", without))


@WALLS
def test_what_is_refused_and_gets_through_without_its_wall_passes(without: Any) -> None:
    check("an attack", without, "EPERM", "done", "done")


@WALLS
def test_what_gets_through_fails(without: Any) -> None:
    with pytest.raises(AssertionError):
        check("an attack", without, "done", "done", "done")


@ROOT
@WALLS
@pytest.mark.parametrize("plain", ["EPERM", "ENOSYS"])
def test_a_new_row_without_a_control_fails(without: Any, plain: str) -> None:
    with pytest.raises(AssertionError, match="the positive control is refused as well"):
        check("an attack", without, "EPERM", plain, plain)


@WALLS
def test_what_kernels_may_lack_is_skipped(without: Any) -> None:
    with pytest.raises(pytest.skip.Exception, match="needs a kernel with x32"):
        check("x32", without, "ENOSYS", "ENOSYS", "ENOSYS")


def test_what_this_kernel_has_must_get_through_without_the_wall() -> None:
    with pytest.raises(AssertionError):
        check("x32", SECCOMP, "ENOSYS", "ENOSYS", "done")


def test_all_that_may_be_lacking_is_tried() -> None:
    surface = test_kernel_surface
    rows = (*surface.ROWS, *surface.ENTRIES, *surface.FILES, *test_files.DEVICES)
    assert {row.name for row in rows} >= OPTIONAL

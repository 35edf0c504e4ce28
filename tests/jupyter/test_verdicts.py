"""What is said of a verdict: what ended, and where that leaves the variables."""

from __future__ import annotations

import pytest

from kernel_runtime.domain.errors import GuestCodeError
from kernel_runtime.domain.verdict import Reason, Verdict
from kernel_runtime.jupyter import showing, verdicts
from kernel_runtime.result import Result
from tests.jupyter.kernels import REAL, running


def cut_short(*, undoable: bool, reason: Reason = Reason.WALL) -> Verdict:
    return Verdict(reason=reason, limit=1, used=1, survived=True, undoable=undoable)


@pytest.mark.parametrize("undoable", [True, False])
def test_undo_is_spoken_of_where_it_is_possible(undoable: bool) -> None:
    told = verdicts.trouble_of(cut_short(undoable=undoable)).evalue
    kept = "The guest lives on; its variables are kept."
    assert told.endswith(f"{kept} `%undo` brings back the state before the cell." if undoable else kept)


@pytest.mark.parametrize("undoable", [True, False])
def test_of_a_guest_of_the_magic_it_is_that_magics(undoable: bool) -> None:
    error = showing.error_of(Result(verdict=cut_short(undoable=undoable)), "mine")
    assert error is not None
    assert ("`%sandbox undo --name mine` brings back" in error.evalue) is undoable
    quoted = showing.error_of(Result(verdict=cut_short(undoable=undoable)), "my own")
    assert ("`%sandbox undo --name 'my own'` brings" in str(quoted)) is undoable
    code = GuestCodeError("MemoryError", "", ["MemoryError: "])
    result = Result(error=code, verdict=cut_short(undoable=undoable, reason=Reason.MEMORY))
    shown = showing.error_of(result, "mine")
    assert shown is not None
    assert ("`%sandbox undo --name mine` brings back" in "\n".join(shown._render_traceback_())) is undoable


def test_in_a_kernel_a_limit_that_is_met_is_told_with_the_magic_that_shows_it() -> None:
    with running(REAL, "--open_files", "64") as kernel:
        reply, _ = kernel.run("[open('/dev/null') for _ in range(99)]")
    assert "64 open files at once in one process (limit open_files, see %limits)" in str(reply["content"])
